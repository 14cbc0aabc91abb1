// Small things done with files and sockets everywhere, wrapped once.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

// The whole file; EFBIG if it is longer than limit bytes.
Result<std::string> read_file(const std::string& path, size_t limit = 16 << 20);
// What is left to read from a descriptor, up to limit bytes (EFBIG beyond).
Result<std::string> read_descriptor(int fd, size_t limit = 16 << 20);

// Replaces a file by writing <path>.tmp.<pid> and renaming it: a reader sees the old text or the new one, whatever dies meanwhile. Not
// synced: state under /run.
Result<void> write_file_atomic(const std::string& path, std::string_view bytes, mode_t mode = 0600);
// One write(2) of text to an existing file of /proc, /sys or a cgroup; a short write is an error.
Result<void> write_file(const std::string& path, std::string_view text);
// Writes all of it, whatever the number of write(2) calls.
Result<void> write_all(int fd, std::string_view bytes);

// The folder and its missing parents, as mkdir -p.
Result<void> mkdir_p(const std::string& path, mode_t mode = 0755);

// Removes a file or a folder with all that is in it. Symbolic links are removed, not followed; a file system mounted below is neither
// entered nor removed (EBUSY then). A path that does not exist is success.
Result<void> remove_tree(const std::string& path);

// One sendmsg(2), never a signal: how many bytes have gone; descriptors (borrowed, 64 at most) go with the first of them. flags:
// MSG_DONTWAIT...
Result<size_t> send_some_with_fds(int socket, std::string_view bytes, const std::vector<int>& fds, int flags = 0);
// Sends all of it over a stream or as one packet, descriptors (borrowed) with its first byte. Blocks, also on a non-blocking socket.
Result<void> send_with_fds(int socket, std::string_view bytes, const std::vector<int>& fds);
// One recvmsg(2): appends the descriptors that came with the bytes, close-on-exec. 0: end of file. flags: MSG_DONTWAIT... More than 64
// descriptors at once: EMSGSIZE, and all are closed.
Result<size_t> recv_with_fds(int socket, void* buffer, size_t size, std::vector<UniqueFd>& fds, int flags = 0);

}  // namespace caisson::host
