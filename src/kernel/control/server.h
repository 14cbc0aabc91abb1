// The kernel process's own loop: its tenants, and signals.
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
  // Until the first container's first process has ended: its exit status.
  int serve(std::unique_ptr<Container> container, UniqueFd control, const Kernel::Started& init);
  // Threads that start something are at work: the kernel must not be taken apart.
  bool busy() const { return house_.starting != 0; }

 private:
  SharedNamespaces shared_namespaces(const v1::Start& start);
  Container* find(const std::string& id);
  void pass_signal();
  void settle();

  UniqueFd signals_, event_;
  Household house_;
  std::list<std::unique_ptr<Tenant>> tenants_;  // the first container's comes first
  std::vector<std::unique_ptr<Container>> ended_;
};

}  // namespace caisson::kernel
