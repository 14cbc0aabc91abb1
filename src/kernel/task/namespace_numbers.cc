#include "kernel/task/namespace_numbers.h"

#include <sys/stat.h>

#include <string>

#include "kernel/fs/host/identity.h"

namespace caisson::kernel {

uint64_t host_namespace_number(const char* name) {
  struct stat status;
  return fstatat(proc_folder(), (std::string("self/ns/") + name).c_str(), &status, 0) == 0 ? status.st_ino : 0;
}

void adopt_host_namespaces() {
  std::map<NamespaceKind, uint64_t> numbers;
  for (const NamespaceKind kind : {NamespaceKind::User, NamespaceKind::Network, NamespaceKind::Time})
    if (const uint64_t number = host_namespace_number(namespace_name(kind)); number != 0) numbers[kind] = number;
  const AdoptedNumbers adopted(std::move(numbers));
  (void)UserNamespace::initial();
  (void)sandbox_network();
  (void)sandbox_time();
}

}  // namespace caisson::kernel
