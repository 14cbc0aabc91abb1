#include "agent/serve.h"

namespace caisson::agent {

Result<void> serve(host::EventLoop& loop, UniqueFd transport, std::unique_ptr<sandbox::Sandbox> containers, ServeOptions options) {
  std::optional<Error> failure;
  auto mux = TRY(sandbox::Mux::create(loop, std::move(transport), {.poll_on_zero_read = options.virtio_port, .hold_unattached = true},
                                      [&](Error error) {
                                        failure = std::move(error);
                                        loop.stop();
                                      }));
  AgentSandbox agent(loop, *mux, std::move(containers), std::move(options.configure), [&] {
    // The answer to Shutdown is still on its way; the host is likely to end the machine before this.
    loop.add_timer(std::chrono::seconds(1), [&] { loop.stop(); });
  });
  rpc::Server server(loop, [&](rpc::Call call) { sandbox::dispatch(agent, std::move(call)); });
  TRY(server.add_connection(TRY(mux->attach_socket(sandbox::kControlChannel)), [&] {
    failure = Error(ECONNRESET, "the host has ended the control channel");
    loop.stop();
  }));
  TRY(loop.run());
  if (failure) return std::move(*failure);
  return {};
}

}  // namespace caisson::agent
