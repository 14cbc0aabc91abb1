// The kernel process's own loop: its tenants, and who brings new ones.
#pragma once

#include <list>
#include <memory>
#include <vector>

#include "kernel/control/tenant.h"

namespace caisson::kernel {

class Server {
 public:
  // signals: a signalfd. own_user_namespace: the kernel process is in one that further containers have to join.
  Server(Kernel& kernel, UniqueFd signals, bool own_user_namespace);
  // control: where the sandbox process announces containers. Until all that have come have ended; without any, until that channel ends.
  void serve(UniqueFd control);

 private:
  SharedNamespaces shared_namespaces(const v1::Start& start);
  Container* find(const std::string& id);
  void take_announcement();
  void take_signal();
  void settle();
  void forget_those_over();
  bool all_gone() const;

  UniqueFd signals_, event_, control_;
  Household house_;
  std::list<std::unique_ptr<Tenant>> tenants_;
  std::vector<std::unique_ptr<Container>> ended_;
  bool inhabited_ = false;  // somebody has come
};

}  // namespace caisson::kernel
