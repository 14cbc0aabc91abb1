// The Sandbox service's rows: one per RPC of proto/sandbox.proto. They drive the C++ interface, server dispatch and the clients.
#pragma once

#define CAISSON_SANDBOX_METHODS(X) \
  X(Configure)                     \
  X(CreateContainer)               \
  X(StartContainer)                \
  X(ExecProcess)                   \
  X(SignalProcess)                 \
  X(WaitProcess)                   \
  X(ResizePty)                     \
  X(CloseStdin)                    \
  X(PauseContainer)                \
  X(ResumeContainer)               \
  X(UpdateContainer)               \
  X(Stats)                         \
  X(ListProcesses)                 \
  X(GetState)                      \
  X(Delete)                        \
  X(Events)                        \
  X(Ping)                          \
  X(Shutdown)

// What not every sandbox has: one that does not implement a row answers it with ENOTSUP.
#define CAISSON_SANDBOX_OPTIONAL_METHODS(X) \
  X(Connect)                                \
  X(Debug) X(AttachDevices) X(ServeNames) X(Mirror)
