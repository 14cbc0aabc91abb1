#include "sandbox/local/streams.h"

#include <fcntl.h>

namespace caisson::sandbox::local {
namespace {

Result<UniqueFd> copy_of(uint32_t index, const rpc::Descriptors& fds, std::string_view what) {
  if (index >= fds.size()) return make_error(EINVAL, "{} is descriptor {} of a request that brought {}", what, index, fds.size());
  UniqueFd copy(fcntl(fds[index].get(), F_DUPFD_CLOEXEC, 3));
  if (!copy) return errno_error("cannot copy the descriptor of {}", what);
  return copy;
}

Result<UniqueFd> stream(bool given, const v1::Stream& stream, const rpc::Descriptors& fds, std::string_view what) {
  if (!given || stream.carrier_case() == v1::Stream::CARRIER_NOT_SET) return UniqueFd();
  if (stream.carrier_case() != v1::Stream::kDescriptor)
    return make_error(EINVAL, "{} is a channel, but this sandbox has no multiplexer", what);
  return copy_of(stream.descriptor(), fds, what);
}

}  // namespace

Result<container::Stdio> take_stdio(const v1::Streams& streams, const google::protobuf::RepeatedField<uint32_t>& preserved,
                                    const rpc::Descriptors& fds) {
  container::Stdio stdio;
  stdio.in = TRY(stream(streams.has_stdin(), streams.stdin(), fds, "standard input"));
  stdio.out = TRY(stream(streams.has_stdout(), streams.stdout(), fds, "standard output"));
  stdio.err = TRY(stream(streams.has_stderr(), streams.stderr(), fds, "standard error"));
  stdio.console_socket = TRY(stream(streams.has_terminal(), streams.terminal(), fds, "the console socket"));
  for (uint32_t index : preserved) stdio.preserved.push_back(TRY(copy_of(index, fds, "a preserved descriptor")));
  return stdio;
}

std::vector<int> descriptors_of(const container::Stdio& stdio) {
  std::vector<int> fds;
  for (const UniqueFd* fd : {&stdio.in, &stdio.out, &stdio.err, &stdio.console_socket})
    if (fd->valid()) fds.push_back(fd->get());
  for (const UniqueFd& fd : stdio.preserved) fds.push_back(fd.get());
  return fds;
}

}  // namespace caisson::sandbox::local
