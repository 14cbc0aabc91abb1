// What the kernel process asks of the allocator (malloc): its memory counts in the container's limit.
#pragma once

namespace caisson::kernel {

// An area for each of many threads would be quick, but each keeps some memory for ever: a few for all. Before the first thread.
void use_few_areas();

// Gives the pages back that the allocator keeps: it would keep in each area the most that was ever needed there (pipes, sockets' buffers).
// For a moment when there is little to do; at most once a second, else nothing.
void return_freed_memory();

}  // namespace caisson::kernel
