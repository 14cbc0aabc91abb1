// Robust futexes (set_robust_list(2)): what a thread that ends gives up. The host cannot do it: the words name the guest's threads.
#pragma once

namespace caisson::kernel {

class Task;

// Marks the futexes that the task still owns, and wakes one waiter of each. By the task's own thread, while its memory is there; once.
void give_up_robust_futexes(Task& task);

}  // namespace caisson::kernel
