#include "kernel/task/exec.h"

#include <elf.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include <algorithm>

#include "kernel/klog.h"
#include "kernel/signal/send.h"
#include "kernel/stub/layout.h"
#include "kernel/task/elf.h"
#include "kernel/task/exec_credentials.h"
#include "kernel/task/kernel.h"
#include "kernel/task/robust.h"
#include "kernel/task/stub_limits.h"
#include "kernel/task/unshare.h"
#include "kernel/time/process_timers.h"
#include "kernel/trace/trace.h"
#include "kernel/vfs/notify.h"
#include "kernel/vfs/walk.h"

namespace caisson::kernel {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t up(uint64_t value) { return (value + kPage - 1) & ~(kPage - 1); }
constexpr uint64_t kMostStack = 1ULL << 30;
constexpr uint64_t kLeastStack = 1ULL << 17;

uint64_t some_random_pages(unsigned bits) {
  uint64_t value = 0;
  if (getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value) value = static_cast<uint64_t>(monotonic_now());
  return (value & ((1ULL << bits) - 1)) * kPage;
}

struct Script {
  std::string interpreter, argument;
};
// "#! interpreter [argument]" in the first 256 bytes (execve(2)).
bool parse_script(std::string_view start, Script* script) {
  if (!start.starts_with("#!")) return false;
  start.remove_prefix(2);
  if (const size_t end = start.find('\n'); end != start.npos) start = start.substr(0, end);
  if (const size_t end = start.find('\0'); end != start.npos) start = start.substr(0, end);
  const auto trim = [](std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
    return text;
  };
  start = trim(start);
  if (start.empty()) return false;
  const size_t space = start.find_first_of(" \t");
  script->interpreter = start.substr(0, space);
  if (space != start.npos) script->argument = trim(start.substr(space));
  return true;
}

// Follows scripts to the ELF file in the end.
Result<void> resolve_scripts(Task& task, ExecRequest& request) {
  for (int depth = 0;; ++depth) {
    char start[256] = {};
    IoBuffer buffer(start, sizeof start);
    const size_t got = TRY(request.file->read(task, buffer, 0));
    Script script;
    if (!parse_script({start, got}, &script)) return {};
    if (depth >= 5) return Errno(ELOOP);
    std::vector<std::string> arguments = {script.interpreter};
    if (!script.argument.empty()) arguments.push_back(script.argument);
    arguments.push_back(request.path);
    if (!request.arguments.empty()) arguments.insert(arguments.end(), request.arguments.begin() + 1, request.arguments.end());
    request.arguments = std::move(arguments);
    request.file = TRY(open_program(task, AT_FDCWD, script.interpreter, 0));
    request.path = script.interpreter;
  }
}

// The stack as the ABI wants it (System V AMD64, "Process initialization"): texts on top, below them the auxiliary vector, the environment,
// the arguments.
class StackImage {
 public:
  explicit StackImage(uint64_t top) : top_(top) {}
  uint64_t text(std::string_view text) {
    texts_.push_back('\0');
    texts_.insert(texts_.end(), text.rbegin(), text.rend());
    return top_ - texts_.size();
  }
  uint64_t bytes(const void* data, size_t size) {
    const char* from = static_cast<const char*>(data);
    while ((texts_.size() + size) % 16 != 0) texts_.push_back('\0');
    for (size_t i = size; i > 0; --i) texts_.push_back(from[i - 1]);
    return top_ - texts_.size();
  }
  // The whole, with words at its low end; *sp is where it begins.
  std::vector<char> finish(const std::vector<uint64_t>& words, uint64_t* sp) {
    *sp = (top_ - texts_.size() - words.size() * 8) & ~15ULL;
    std::vector<char> image(top_ - *sp);
    memcpy(image.data(), words.data(), words.size() * 8);
    std::reverse_copy(texts_.begin(), texts_.end(), image.end() - static_cast<ptrdiff_t>(texts_.size()));
    return image;
  }

 private:
  uint64_t top_;
  std::vector<char> texts_;  // from the top downwards
};

struct Places {
  uint64_t bias = 0, interpreter_bias = 0, entry = 0, stack_top = 0, stack_size = 0;
};

std::vector<char> build_stack(Task& task, const ExecRequest& request, const ElfImage& image, const Places& places, const Credentials& creds,
                              bool secure, AddressSpace::Layout& layout, uint64_t* sp) {
  StackImage stack(places.stack_top - 16);
  const uint64_t file_name = stack.text(request.path);
  std::vector<uint64_t> environment, arguments;
  layout.env_end = file_name;
  for (auto it = request.environment.rbegin(); it != request.environment.rend(); ++it)
    environment.insert(environment.begin(), stack.text(*it));
  layout.env_start = environment.empty() ? layout.env_end : environment.front();
  layout.arg_end = layout.env_start;
  for (auto it = request.arguments.rbegin(); it != request.arguments.rend(); ++it) arguments.insert(arguments.begin(), stack.text(*it));
  layout.arg_start = arguments.empty() ? layout.arg_end : arguments.front();
  const uint64_t platform = stack.text("x86_64");
  uint8_t random[16];
  if (getrandom(random, sizeof random, 0) != sizeof random) memset(random, 0x5a, sizeof random);
  const uint64_t random_address = stack.bytes(random, sizeof random);

  std::vector<uint64_t>& auxv = layout.auxv;
  auxv.clear();
  const auto add = [&](uint64_t key, uint64_t value) {
    auxv.push_back(key);
    auxv.push_back(value);
  };
  if (const uint64_t vdso = task.kernel.stubs_of(task).vdso(); vdso != 0) add(AT_SYSINFO_EHDR, vdso);
  if (const uint64_t least = getauxval(51 /* AT_MINSIGSTKSZ */); least != 0) add(51, least);
  add(AT_HWCAP, getauxval(AT_HWCAP));
  add(AT_PAGESZ, kPage);
  add(AT_CLKTCK, 100);
  if (image.headers_address != 0) add(AT_PHDR, image.headers_address + places.bias);
  add(AT_PHENT, sizeof(Elf64_Phdr));
  add(AT_PHNUM, image.header.e_phnum);
  add(AT_BASE, places.interpreter_bias);
  add(AT_FLAGS, 0);
  add(AT_ENTRY, image.header.e_entry + places.bias);
  const auto shown = [&](UserNamespace::Ids ids, uint32_t id) { return creds.user->shown(ids, id); };
  add(AT_UID, shown(UserNamespace::Ids::Users, creds.uid));
  add(AT_EUID, shown(UserNamespace::Ids::Users, creds.euid));
  add(AT_GID, shown(UserNamespace::Ids::Groups, creds.gid));
  add(AT_EGID, shown(UserNamespace::Ids::Groups, creds.egid));
  add(AT_SECURE, secure);
  add(AT_RANDOM, random_address);
  add(AT_HWCAP2, getauxval(AT_HWCAP2));
  add(AT_EXECFN, file_name);
  add(AT_PLATFORM, platform);
  add(AT_NULL, 0);

  std::vector<uint64_t> words = {arguments.size()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  words.push_back(0);
  words.insert(words.end(), environment.begin(), environment.end());
  words.push_back(0);
  words.insert(words.end(), auxv.begin(), auxv.end());
  return stack.finish(words, sp);
}

// A program that changes its identity is not placed where its caller knows it to be (PER_CLEAR_ON_SETID in Linux).
uint32_t new_personality(const Task& task, bool secure) {
  return secure ? task.personality & ~static_cast<uint32_t>(ADDR_NO_RANDOMIZE) : task.personality.load();
}

Places choose_places(Task& task, const ElfImage& image, const ElfImage* interpreter, bool random) {
  Places places;
  const auto random_pages = [random](unsigned bits) { return random ? some_random_pages(bits) : 0; };
  if (image.position_independent)
    places.bias = (image.interpreter.empty() ? 0x7d0000000000ULL : 0x555555554000ULL) + random_pages(26) - image.lowest;
  places.entry = image.header.e_entry + places.bias;
  if (interpreter != nullptr) {
    places.interpreter_bias = 0x7d8000000000ULL + random_pages(26) - interpreter->lowest;
    places.entry = interpreter->header.e_entry + places.interpreter_bias;
  }
  places.stack_top = STUB_WINDOW - (1ULL << 32) - random_pages(20);
  const rlim_t limit = task.group->limit(RLIMIT_STACK).rlim_cur;
  places.stack_size = up(std::clamp<uint64_t>(limit == RLIM_INFINITY ? 8ULL << 20 : limit, kLeastStack, kMostStack));
  return places;
}

// Runs the plan in the stub: everything must work.
Result<void> run_all(StubThread& stub, const std::vector<StubCall>& calls) {
  const std::vector<int64_t> results = TRY(stub.run(calls));
  for (int64_t result : results)
    if (result < 0 && result > -4096) return Errno(static_cast<int>(-result));
  return {};
}

std::string base_name(const std::string& path) { return path.substr(path.find_last_of('/') + 1).substr(0, 15); }

}  // namespace

std::atomic<int>& address_randomisation() {
  static std::atomic<int> value{2};
  return value;
}

Result<FileRef> open_program(Task& task, int dirfd, const std::string& path, unsigned walk_flags) {
  const Path place = TRY(walk(task, dirfd, path, walk_flags));
  const InodeRef inode = place.inode();
  if ((inode->type() & S_IFMT) == S_IFLNK) return Errno(ELOOP);
  if ((inode->type() & S_IFMT) != S_IFREG) return Errno(EACCES);
  if ((place.mount->flags & 8 /* MS_NOEXEC */) != 0) return Errno(EACCES);
  TRY(inode->access(task, X_OK, true));
  // By the kernel: the right to execute is enough, the right to read is not needed.
  FileRef file = TRY(inode->open(task, place, O_RDONLY | kOpenTrusted));
  notify(place, IN_OPEN);
  return file;
}

Result<LoadedProgram> load_program(Task& task, ExecRequest request) {
  LoadedProgram program;
  const std::string first_name = base_name(request.path);
  if (request.arguments.empty()) request.arguments.push_back("");
  const std::string given_path = request.path;
  TRY(resolve_scripts(task, request));
  auto [creds, secure] = TRY(exec_credentials(task, *request.file));
  program.creds = std::move(creds);
  const ElfImage image = TRY(read_elf(task, request.file));
  ElfImage interpreter;
  const bool dynamic = !image.interpreter.empty();
  if (dynamic) {
    const FileRef file = TRY(open_program(task, AT_FDCWD, image.interpreter, 0));
    Result<ElfImage> read = read_elf(task, file);
    if (!read) return read.error() == Errno(ENOEXEC) ? Errno(ELIBBAD) : read.error();
    interpreter = *std::move(read);
  }
  program.personality = new_personality(task, secure);
  const int randomisation = (program.personality & ADDR_NO_RANDOMIZE) != 0 ? 0 : address_randomisation().load();
  const bool random = randomisation > 0;
  const Places places = choose_places(task, image, dynamic ? &interpreter : nullptr, random);
  std::vector<StubCall> calls;
  std::vector<UserSpan> zeros;
  if (places.bias + image.highest >= STUB_WINDOW || places.bias + image.lowest < kPage) return Errno(ENOEXEC);
  TRY(plan_elf(image, places.bias, calls, zeros));
  if (dynamic) TRY(plan_elf(interpreter, places.interpreter_bias, calls, zeros));
  const int stack_prot = PROT_READ | PROT_WRITE | (image.executable_stack ? PROT_EXEC : 0);
  calls.push_back({SYS_mmap,
                   {places.stack_top - places.stack_size, places.stack_size, static_cast<uint64_t>(stack_prot),
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, ~0ULL, 0}});

  program.stub = TRY(task.kernel.stubs_of(task).take());
  StubThread& stub = *program.stub;
  TRY(run_all(stub, calls));
  const pid_t tid = stub.host_tid();
  for (const UserSpan& zero : zeros) {
    IoBuffer buffer(tid, zero);
    if (TRY(buffer.put_zeros(zero.length)) != zero.length) return Errno(EFAULT);
  }
  AddressSpace::Layout& layout = stub.memory()->layout;
  uint64_t sp = 0;
  const std::vector<char> stack = build_stack(task, request, image, places, *program.creds, secure, layout, &sp);
  if (stack.size() > places.stack_size - kPage) return Errno(E2BIG);
  TRY(write_guest(tid, sp, stack.data(), stack.size()));
  layout.start_stack = sp;
  layout.stack_low = places.stack_top - places.stack_size;
  layout.stack_high = places.stack_top;
  layout.start_code = places.bias + image.segments.front().p_vaddr;
  for (const Elf64_Phdr& segment : image.segments) {
    const uint64_t end = places.bias + segment.p_vaddr + segment.p_filesz;
    if ((segment.p_flags & PF_X) != 0) layout.end_code = std::max(layout.end_code, end);
    if ((segment.p_flags & PF_W) != 0 && layout.start_data == 0) layout.start_data = places.bias + segment.p_vaddr;
    layout.end_data = std::max(layout.end_data, end);
  }
  layout.start_brk = layout.brk = layout.brk_mapped =
      places.bias + image.highest + (image.position_independent && randomisation > 1 ? some_random_pages(8) : 0);
  stub.memory()->executable = std::make_shared<Path>(request.file->path());
  program.regs.rip = places.entry;
  program.regs.rsp = sp;
  program.regs.eflags = 0x202;
  stub.reset_fp_state();
  program.name = first_name;
  return program;
}

namespace {

// Every other thread of the process leaves.
Result<void> end_other_threads(Task& task) {
  ThreadGroup& group = *task.group;
  TaskWaiter waiter(task, group.thread_left, 0);
  {
    std::lock_guard guard(task.kernel.tasks);
    if (group.exiting || group.executing != nullptr) return Errno(EAGAIN);
    group.executing = &task;
    for (Task* other : group.tasks) {
      if (other == &task) continue;
      other->leaving = true;
      kick_locked(*other);
    }
  }
  for (;;) {
    task.prepare_to_block();
    {
      std::lock_guard guard(task.kernel.tasks);
      if (group.tasks.size() == 1 || group.exiting) {
        group.executing = nullptr;
        if (group.exiting) return Errno(EAGAIN);
        return {};
      }
    }
    (void)task.block_killable();
  }
}

// A fresh stub may run wherever its zygote may; execve(2) keeps what sched_setaffinity(2) has chosen.
void keep_cpus(StubThread& old, const StubThread& now) {
  old.settle();
  cpu_set_t chosen, given;
  if (sched_getaffinity(old.host_tid(), sizeof chosen, &chosen) != 0 || sched_getaffinity(now.host_tid(), sizeof given, &given) != 0)
    return;
  if (!CPU_EQUAL(&chosen, &given)) (void)sched_setaffinity(now.host_tid(), sizeof chosen, &chosen);
}

}  // namespace

Result<void> exec_program(Task& task, ExecRequest request) {
  LoadedProgram program = TRY(load_program(task, std::move(request)));
  TRY(end_other_threads(task));
  // From here on there is no way back, and nothing can fail.
  give_up_robust_futexes(task);
  if (const auto timers = ProcessTimers::existing(task)) timers->exec();
  const std::shared_ptr<StubProcess> process = program.stub->process();
  unshare_descriptors(task);
  const std::vector<FileRef> closed = task.fds->remove_close_on_exec();
  for (const FileRef& file : closed) file->closed_by(task);
  std::unique_ptr<StubThread> old;
  std::shared_ptr<AddressSpace> old_memory;
  {
    std::lock_guard guard(task.kernel.tasks);
    ThreadGroup& group = *task.group;
    if (task.tid != group.pid) {
      unlist_task_locked(task);
      task.id = group.id;
      task.tid = group.pid;
      list_task_locked(task);
    }
    group.leader = &task;
    group.handlers = group.handlers->after_exec();
    group.exit_signal = SIGCHLD;
    group.has_executed = true;
    const bool gains = (program.creds->permitted & ~task.creds->permitted) != 0;
    group.dumpable = !gains && task.creds->euid == program.creds->euid && task.creds->egid == program.creds->egid;
    old = std::exchange(task.stub, std::move(program.stub));
    old_memory = std::exchange(task.memory, task.stub->memory());
    task.name = program.name;
    // Who has begun to trace in the meantime does not get the rights that it has gained.
    if ((gains || program.creds->euid != task.creds->euid) && traced_by_weaker_locked(task)) end_tracing_locked(task, 0);
    task.creds = program.creds;
  }
  task.personality = program.personality;
  schedule_new_stub(task);
  keep_cpus(*old, *task.stub);
  task.kernel.watch(process);
  task.alternate_stack = abi::SigStack();
  task.registers() = program.regs;
  task.in_syscall = false;
  task.restart = nullptr;
  if (task.vfork_wait) {
    task.vfork_wait->finish();
    task.vfork_wait.reset();
  }
  const rusage used = old->process()->reap();
  {
    ThreadGroup& group = *task.group;
    std::lock_guard guard(task.kernel.tasks);
    group.usage.user_ns += used.ru_utime.tv_sec * 1'000'000'000L + used.ru_utime.tv_usec * 1000L;
    group.usage.system_ns += used.ru_stime.tv_sec * 1'000'000'000L + used.ru_stime.tv_usec * 1000L;
    group.usage.max_rss_kib = std::max(group.usage.max_rss_kib, used.ru_maxrss);
  }
  limit_new_stub(task);
  return {};
}

}  // namespace caisson::kernel
