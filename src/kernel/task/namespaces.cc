#include "kernel/task/namespaces.h"

#include <sched.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <utility>

#include "kernel/task/namespace_numbers.h"

namespace caisson::kernel {

namespace {

constexpr uint64_t kNewTime = 0x80;  // CLONE_NEWTIME
struct KindRow {
  const char* name;
  uint64_t flag;
};
// By NamespaceKind.
constexpr KindRow kKinds[] = {{"mnt", CLONE_NEWNS},    {"uts", CLONE_NEWUTS}, {"ipc", CLONE_NEWIPC},       {"pid", CLONE_NEWPID},
                              {"user", CLONE_NEWUSER}, {"net", CLONE_NEWNET}, {"cgroup", CLONE_NEWCGROUP}, {"time", kNewTime}};

std::array<std::atomic<size_t>, std::size(kKinds)>& counts() {
  static std::array<std::atomic<size_t>, std::size(kKinds)> value{};
  return value;
}

thread_local std::map<NamespaceKind, uint64_t>* t_adopted = nullptr;

// Where Linux has them, but far above those that the host gives, and not the same in each kernel process.
uint64_t next_number(NamespaceKind kind) {
  constexpr uint64_t kFirst = 0xf8000000, kFew = 0x3ffffff;
  if (t_adopted != nullptr)
    if (const auto found = t_adopted->find(kind); found != t_adopted->end()) return t_adopted->extract(found).mapped();
  static std::atomic<uint64_t> next{[] {
    uint32_t random = 0;
    [[maybe_unused]] const ssize_t ignored = getrandom(&random, sizeof random, GRND_NONBLOCK);
    return kFirst + (random & kFew);
  }()};
  return next++;
}

}  // namespace

AdoptedNumbers::AdoptedNumbers(std::map<NamespaceKind, uint64_t> numbers) {
  delete std::exchange(t_adopted, new std::map<NamespaceKind, uint64_t>(std::move(numbers)));
}
AdoptedNumbers::~AdoptedNumbers() { delete std::exchange(t_adopted, nullptr); }

const char* namespace_name(NamespaceKind kind) { return kKinds[static_cast<size_t>(kind)].name; }
uint64_t namespace_flag(NamespaceKind kind) { return kKinds[static_cast<size_t>(kind)].flag; }

Namespace::Namespace(NamespaceKind k, std::shared_ptr<UserNamespace> o) : kind(k), number(next_number(k)), owner(std::move(o)) {
  ++counts()[static_cast<size_t>(kind)];
}
Namespace::~Namespace() { --counts()[static_cast<size_t>(kind)]; }

Result<void> may_make_namespace(NamespaceKind kind) {
  const size_t most = kind == NamespaceKind::Network ? kMostNetworkNamespaces : kMostNamespaces;
  if (counts()[static_cast<size_t>(kind)] >= most) return Errno(ENOSPC);
  return {};
}

// ---- Users

const std::shared_ptr<UserNamespace>& UserNamespace::initial() {
  static const auto* const one = new std::shared_ptr<UserNamespace>([] {
    auto first = std::make_shared<UserNamespace>(nullptr, 0, 0, 0);
    first->users_ = first->groups_ = {{0, 0, UINT32_MAX}};
    return first;
  }());
  return *one;
}

UserNamespace::UserNamespace(std::shared_ptr<UserNamespace> parent, int depth, uid_t creator_id, gid_t group)
    : Namespace(NamespaceKind::User, std::move(parent)), level(depth), creator(creator_id), creators_group(group) {}

Result<std::shared_ptr<UserNamespace>> UserNamespace::create(std::shared_ptr<UserNamespace> parent, uid_t creator, gid_t creators_group) {
  if (parent->level + 1 > kDeepestNamespace) return Errno(ENOSPC);
  TRY(may_make_namespace(NamespaceKind::User));
  const int level = parent->level + 1;
  const bool set_groups = parent->may_set_groups();
  auto made = std::make_shared<UserNamespace>(std::move(parent), level, creator, creators_group);
  made->set_groups_ = set_groups;
  return made;
}

std::shared_ptr<Namespace> UserNamespace::parent_namespace() const { return owner; }

std::optional<uint32_t> UserNamespace::to_kernel(Ids ids, uint32_t inside) const {
  std::lock_guard guard(lock_);
  for (const Range& range : ids == Ids::Users ? users_ : groups_)
    if (inside >= range.inside && inside - range.inside < range.count)
      return is_initial() ? inside : range.outside + (inside - range.inside);
  return std::nullopt;
}

std::optional<uint32_t> UserNamespace::from_kernel(Ids ids, uint32_t id) const {
  if (is_initial()) return id;
  std::lock_guard guard(lock_);
  for (const Range& range : ids == Ids::Users ? users_ : groups_)
    if (id >= range.outside && id - range.outside < range.count) return range.inside + (id - range.outside);
  return std::nullopt;
}

uint32_t UserNamespace::shown(Ids ids, uint32_t id) const { return from_kernel(ids, id).value_or(kOverflowId); }

std::vector<UserNamespace::Range> UserNamespace::map(Ids ids) const {
  std::lock_guard guard(lock_);
  return ids == Ids::Users ? users_ : groups_;
}

void UserNamespace::adopt(Ids ids, std::vector<Range> map) {
  std::lock_guard guard(lock_);
  (ids == Ids::Users ? users_ : groups_) = std::move(map);
}

Result<void> UserNamespace::set_map(Ids ids, std::vector<Range> map) {
  std::lock_guard guard(lock_);
  std::vector<Range>& ours = ids == Ids::Users ? users_ : groups_;
  if (!ours.empty()) return Errno(EPERM);
  ours = std::move(map);
  return {};
}

bool UserNamespace::may_set_groups() const {
  std::lock_guard guard(lock_);
  return set_groups_;
}

Result<void> UserNamespace::allow_set_groups(bool allow) {
  std::lock_guard guard(lock_);
  if (allow) return set_groups_ ? Result<void>() : Errno(EPERM);
  if (!groups_.empty()) return Errno(EPERM);
  set_groups_ = false;
  return {};
}

bool UserNamespace::is_within(const UserNamespace& other) const {
  for (const UserNamespace* at = this; at != nullptr; at = at->owner.get())
    if (at == &other) return true;
  return false;
}

// ---- Names

UtsNamespace::UtsNamespace(std::shared_ptr<UserNamespace> whose) : Namespace(NamespaceKind::Uts, std::move(whose)) {}

std::shared_ptr<UtsNamespace> UtsNamespace::copy(std::shared_ptr<UserNamespace> whose) const {
  auto other = std::make_shared<UtsNamespace>(std::move(whose));
  other->set_host(host());
  other->set_domain(domain());
  return other;
}

std::string UtsNamespace::host() const {
  std::lock_guard guard(lock_);
  return host_;
}
std::string UtsNamespace::domain() const {
  std::lock_guard guard(lock_);
  return domain_;
}
void UtsNamespace::set_host(std::string name) {
  std::lock_guard guard(lock_);
  host_ = std::move(name);
}
void UtsNamespace::set_domain(std::string name) {
  std::lock_guard guard(lock_);
  domain_ = std::move(name);
}

IpcNamespace::IpcNamespace(std::shared_ptr<UserNamespace> whose) : Namespace(NamespaceKind::Ipc, std::move(whose)) {}

// ---- Processes

PidNamespace::PidNamespace() : PidNamespace(nullptr, UserNamespace::initial(), 0) {}
PidNamespace::PidNamespace(std::shared_ptr<PidNamespace> above, std::shared_ptr<UserNamespace> whose, int depth)
    : Namespace(NamespaceKind::Pid, std::move(whose)), parent(std::move(above)), level(depth) {}
PidNamespace::~PidNamespace() = default;

Result<std::shared_ptr<PidNamespace>> PidNamespace::create(std::shared_ptr<PidNamespace> parent, std::shared_ptr<UserNamespace> owner) {
  if (parent->level + 1 > kDeepestNamespace) return Errno(ENOSPC);
  TRY(may_make_namespace(NamespaceKind::Pid));
  const int level = parent->level + 1;
  return std::make_shared<PidNamespace>(std::move(parent), std::move(owner), level);
}

bool PidNamespace::is_within(const PidNamespace& other) const {
  for (const PidNamespace* at = this; at != nullptr; at = at->parent.get())
    if (at == &other) return true;
  return false;
}

pid_t PidNamespace::take_number() {
  // As Linux: ascending, and after the greatest again from 300 on.
  constexpr pid_t kMost = 4'194'304, kAgain = 300;
  std::lock_guard guard(lock_);
  for (pid_t tries = 0; tries < kMost; ++tries) {
    last_ = last_ + 1 < kMost ? last_ + 1 : kAgain;
    if (used_.insert(last_).second) return last_;
  }
  return -1;
}

void PidNamespace::give_back(pid_t number) {
  std::lock_guard guard(lock_);
  used_.erase(number);
}

Result<std::shared_ptr<const TaskId>> TaskId::create(std::shared_ptr<PidNamespace> space) {
  const std::shared_ptr<TaskId> id(new TaskId(std::move(space)));
  std::vector<PidNamespace*> chain;
  for (PidNamespace* at = id->space_.get(); at != nullptr; at = at->parent.get()) chain.push_back(at);
  for (auto at = chain.rbegin(); at != chain.rend(); ++at) {
    const pid_t number = (*at)->take_number();
    if (number < 0) return Errno(EAGAIN);
    id->numbers_.push_back(number);
  }
  return TaskIdRef(id);
}

TaskId::~TaskId() {
  std::vector<PidNamespace*> chain;
  for (PidNamespace* at = space_.get(); at != nullptr; at = at->parent.get()) chain.push_back(at);
  for (size_t i = 0; i < numbers_.size(); ++i) chain[chain.size() - 1 - i]->give_back(numbers_[i]);
}

pid_t TaskId::in(const PidNamespace& space) const {
  const auto level = static_cast<size_t>(space.level);
  if (level >= numbers_.size()) return 0;
  const PidNamespace* at = space_.get();
  while (at->level > space.level) at = at->parent.get();
  return at == &space ? numbers_[level] : 0;
}

// ---- What there is one of

const std::shared_ptr<PlainNamespace>& sandbox_time() {
  static const auto* const one = new std::shared_ptr<PlainNamespace>(std::make_shared<PlainNamespace>(NamespaceKind::Time));
  return *one;
}

}  // namespace caisson::kernel
