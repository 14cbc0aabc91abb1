// The stub blob: all of our code that runs in a guest process. No libc, no data, no FP registers; linked for STUB_BLOB.
//
// A thread lives in one of three states: in the guest's own code; here, in the handler of a host signal on its slot's signal stack, with
// all signals blocked; or here, come by a jump from a thunk, where a call of the guest's has been replaced (src/kernel/patch), with no
// signal blocked, on the stack behind StubFast. Here it gives the turn to the kernel, does what is asked, and returns: by rt_sigreturn to a
// frame that the kernel may have edited, or by a jump to the thunk, with the call's result and all else as it was.
//
// Hostile guests can jump anywhere into this code and write the slots. That gains nothing: the seccomp filter (platform/filter.cc) allows
// from here only what harms the guest process alone.
#include "kernel/stub/layout.h"

#define SYS_read 0
#define SYS_write 1
#define SYS_open 2
#define SYS_close 3
#define SYS_stat 4
#define SYS_fstat 5
#define SYS_lstat 6
#define SYS_poll 7
#define SYS_mmap 9
#define SYS_munmap 11
#define SYS_rt_sigaction 13
#define SYS_rt_sigprocmask 14
#define SYS_rt_sigreturn 15
#define SYS_pread64 17
#define SYS_pwrite64 18
#define SYS_readv 19
#define SYS_writev 20
#define SYS_access 21
#define SYS_pipe 22
#define SYS_sendto 44
#define SYS_recvfrom 45
#define SYS_recvmsg 47
#define SYS_getpid 39
#define SYS_clone 56
#define SYS_exit 60
#define SYS_wait4 61
#define SYS_getcwd 79
#define SYS_unlink 87
#define SYS_readlink 89
#define SYS_getuid 102
#define SYS_getgid 104
#define SYS_geteuid 107
#define SYS_getegid 108
#define SYS_getppid 110
#define SYS_sigaltstack 131
#define SYS_gettid 186
#define SYS_futex 202
#define SYS_exit_group 231
#define SYS_epoll_wait 232
#define SYS_epoll_ctl 233
#define SYS_openat 257
#define SYS_newfstatat 262
#define SYS_unlinkat 263
#define SYS_readlinkat 267
#define SYS_faccessat 269
#define SYS_epoll_pwait 281
#define SYS_pipe2 293
#define SYS_statx 332
#define SYS_faccessat2 439

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define PROT_RW 3
#define MAP_SHARED_FIXED 0x11

typedef struct StubSlot Slot;

static inline int64_t call6(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  int64_t result;
  register uint64_t r10 __asm__("r10") = d;
  register uint64_t r8 __asm__("r8") = e;
  register uint64_t r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return result;
}
#define call3(nr, a, b, c) call6(nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)

struct Iov {
  void* base;
  uint64_t length;
};
struct Message {
  void* name;
  uint32_t name_length;
  uint32_t pad;
  struct Iov* iov;
  uint64_t iovs;
  void* control;
  uint64_t control_length;
  int32_t flags;
  int32_t pad2;
};
struct Control {
  uint64_t length;
  int32_t level;
  int32_t type;
  int32_t fds[STUB_MAX_FDS];
};

static inline Slot* slot_of_stack(void) {
  uint64_t sp;
  __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
  return (Slot*)(STUB_SLOTS + ((sp - STUB_SLOTS) & ~(STUB_SLOT_SIZE - 1)));
}

static inline struct StubFast* fast_of(Slot* slot) { return (struct StubFast*)((uint64_t)slot + STUB_FAST_OFFSET); }
static inline uint64_t gs_base(void) {
  uint64_t base;
  __asm__ volatile("rdgsbase %0" : "=r"(base));
  return base;
}
static inline void set_gs_base(Slot* slot) { __asm__ volatile("wrgsbase %0" ::"r"(slot)); }

static void give_turn(Slot* slot) {
  __atomic_store_n(&slot->turn, STUB_TURN_KERNEL, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&slot->kernel_sleeping, __ATOMIC_SEQ_CST)) call6(SYS_futex, (uint64_t)&slot->turn, FUTEX_WAKE, 1, 0, 0, 0);
}

static void await_turn(Slot* slot) {
  const uint64_t ticks = slot->spin;
  if (ticks != 0) {
    // What is quick is over before the clock, which takes longer than a look, needs to be asked.
    for (int i = 0; i < STUB_FREE_LOOKS; ++i) {
      if (__atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) != STUB_TURN_KERNEL) return;
      __asm__ volatile("pause");
    }
    const uint64_t begin = __builtin_ia32_rdtsc();
    do {
      if (__atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) != STUB_TURN_KERNEL) return;
      __asm__ volatile("pause");
    } while (__builtin_ia32_rdtsc() - begin < ticks);
  }
  __atomic_store_n(&slot->sleeping, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&slot->turn, __ATOMIC_SEQ_CST) == STUB_TURN_KERNEL)
    call6(SYS_futex, (uint64_t)&slot->turn, FUTEX_WAIT, STUB_TURN_KERNEL, 0, 0, 0);
  __atomic_store_n(&slot->sleeping, 0, __ATOMIC_RELAXED);
}

// Copies between the guest's memory and the room. What faults there, in a call from a thunk, ends the copy (stub_signal): what is left.
uint64_t stub_copy(void* to, const void* from, uint64_t size);
// Copies up to a NUL and with it, `most` bytes (at least one) at most; how many. 0: they cannot be read.
uint64_t stub_copy_text(void* to, const void* from, uint64_t most);
// Nonzero: the byte cannot be written.
int stub_probe(void* byte);
extern char stub_copying[], stub_copied[], stub_reading[], stub_unreadable[], stub_probing[], stub_not_writable[];
__asm__(
    ".text\n.globl stub_copy\nstub_copy:\n\t"
    "mov %rdx, %rcx\n"
    ".globl stub_copying\nstub_copying:\n\t"
    "rep movsb\n"
    ".globl stub_copied\nstub_copied:\n\t"
    "mov %rcx, %rax\n\t"
    "ret\n"
    ".globl stub_copy_text\nstub_copy_text:\n\t"
    "xor %eax, %eax\n"
    ".globl stub_reading\nstub_reading:\n\t"
    "movzbl (%rsi,%rax), %ecx\n\t"
    "mov %cl, (%rdi,%rax)\n\t"
    "inc %rax\n\t"
    "test %ecx, %ecx\n\t"
    "jz 1f\n\t"
    "cmp %rdx, %rax\n\t"
    "jb stub_reading\n"
    "1:\n\t"
    "ret\n"
    ".globl stub_unreadable\nstub_unreadable:\n\t"
    "xor %eax, %eax\n\t"
    "ret\n"
    ".globl stub_probe\nstub_probe:\n"
    ".globl stub_probing\nstub_probing:\n\t"
    "lock orb $0, (%rdi)\n\t"
    "xor %eax, %eax\n\t"
    "ret\n"
    ".globl stub_not_writable\nstub_not_writable:\n\t"
    "mov $1, %eax\n\t"
    "ret\n");

static inline char* room_of(Slot* slot) { return (char*)slot + STUB_ROOM_OFFSET; }

// How much of the room the pieces so far take.
static inline uint32_t taken(const struct StubPassed* passed) {
  uint32_t count = passed->count;
  return count == 0 || count > STUB_MOST_PIECES ? 0 : passed->in[count - 1].at + passed->in[count - 1].size;
}

static void pass_in(Slot* slot, uint64_t address, uint64_t size) {
  struct StubPassed* passed = &slot->passed;
  const uint32_t at = (taken(passed) + 7) & ~7U;
  if (size == 0 || at > STUB_ROOM_SIZE || size > STUB_ROOM_SIZE - at || passed->count >= STUB_MOST_PIECES) return;
  if (stub_copy(room_of(slot) + at, (const void*)address, size) != 0) return;
  passed->in[passed->count].address = address;
  passed->in[passed->count].size = (uint32_t)size;
  passed->in[passed->count].at = at;
  passed->count += 1;
}

// A text with its NUL, or the front of a longer one. The first piece of a call.
static void pass_path(Slot* slot, uint64_t address) {
  const uint64_t to_page_end = 4096 - address % 4096;
  const uint64_t size = stub_copy_text(room_of(slot), (const void*)address, to_page_end < STUB_PATH_PIECE ? to_page_end : STUB_PATH_PIECE);
  if (size == 0) return;
  slot->passed.in[0].address = address;
  slot->passed.in[0].size = (uint32_t)size;
  slot->passed.in[0].at = 0;
  slot->passed.count = 1;
}

// After the last piece that goes in. Of a longer piece the front: what is put there is often short.
static void pass_out(Slot* slot, uint64_t address, uint64_t size) {
  struct StubPassed* passed = &slot->passed;
  const uint32_t at = (taken(passed) + 7) & ~7U;
  if (address == 0 || size == 0 || at >= STUB_ROOM_SIZE) return;
  if (size > STUB_ROOM_SIZE - at) size = STUB_ROOM_SIZE - at;
  if (stub_probe((void*)address) != 0) return;
  const uint64_t last = address + size - 1;
  if (last / 4096 != address / 4096 && stub_probe((void*)last) != 0) return;
  passed->out.address = address;
  passed->out.size = (uint32_t)size;
  passed->out.at = at;
}

// struct iovec; the pieces themselves as far as there is room.
static void pass_vectors(Slot* slot, uint64_t vectors, uint64_t count, int writes) {
  if (count == 0 || count > 16) return;
  pass_in(slot, vectors, count * sizeof(struct Iov));
  if (slot->passed.count != 1) return;
  const struct Iov* copy = (const struct Iov*)room_of(slot);
  if (!writes) return pass_out(slot, (uint64_t)copy->base, copy->length);
  for (uint64_t i = 0; i < count && slot->passed.count < STUB_MOST_PIECES; ++i) pass_in(slot, (uint64_t)copy[i].base, copy[i].length);
}

// Brings along what a call of the guest's will have the kernel read, and sees that what it will write can be written.
static void pass(Slot* slot, const struct StubFast* fast) {
  const uint64_t a = fast->rdi, b = fast->rsi, c = fast->rdx;
  slot->passed.count = 0;
  slot->passed.out.size = 0;
  switch (fast->rax) {
    case SYS_read:
    case SYS_pread64:
    case SYS_recvfrom:
      return pass_out(slot, b, c);
    case SYS_write:
    case SYS_pwrite64:
    case SYS_sendto:
      return pass_in(slot, b, c);
    case SYS_readv:
      return pass_vectors(slot, b, c, 0);
    case SYS_writev:
      return pass_vectors(slot, b, c, 1);
    case SYS_open:
    case SYS_access:
    case SYS_unlink:
      return pass_path(slot, a);
    case SYS_openat:
    case SYS_unlinkat:
    case SYS_faccessat:
    case SYS_faccessat2:
      return pass_path(slot, b);
    case SYS_fstat:
      return pass_out(slot, b, 144);
    case SYS_stat:
    case SYS_lstat:
      pass_path(slot, a);
      return pass_out(slot, b, 144);
    case SYS_newfstatat:
      pass_path(slot, b);
      return pass_out(slot, c, 144);
    case SYS_statx:
      pass_path(slot, b);
      return pass_out(slot, fast->r8, 256);
    case SYS_readlink:
      pass_path(slot, a);
      return pass_out(slot, b, c);
    case SYS_readlinkat:
      pass_path(slot, b);
      return pass_out(slot, c, fast->r10);
    case SYS_getcwd:
      return pass_out(slot, a, b);
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      return pass_out(slot, b, c < 256 ? c * 12 : 3072);
    case SYS_epoll_ctl:
      return pass_in(slot, fast->r10, 12);
    case SYS_poll:
      if (b > 64) return;
      pass_in(slot, a, b * 8);
      return pass_out(slot, a, b * 8);
    case SYS_rt_sigprocmask:
      if (b != 0) pass_in(slot, b, 8);
      return pass_out(slot, c, 8);
    case SYS_rt_sigaction:
      if (b != 0) pass_in(slot, b, 32);
      return pass_out(slot, c, 32);
    case SYS_pipe:
    case SYS_pipe2:
      return pass_out(slot, a, 8);
    case SYS_wait4:
      return pass_out(slot, b, 4);
  }
}

// What the kernel has put into the room goes to the guest. Nonzero: it cannot be written any more.
static int take_back(Slot* slot) {
  if (!slot->gives_back) return 0;
  slot->gives_back = 0;
  const struct StubPiece* back = &slot->passed.back;
  const uint32_t size = back->size, at = back->at;
  if (size == 0 || at > STUB_ROOM_SIZE || size > STUB_ROOM_SIZE - at) return 0;
  return stub_copy((void*)back->address, room_of(slot) + at, size) != 0;
}

// Receives one message from `socket`; returns how many descriptors came (they are in fds), or -errno.
static int64_t receive(uint32_t socket, int32_t* fds) {
  uint8_t byte[8];
  struct Iov iov = {byte, sizeof byte};
  struct Control control;
  struct Message message;
  message.name = 0;
  message.name_length = 0;
  message.iov = &iov;
  message.iovs = 1;
  message.control = &control;
  message.control_length = sizeof control;
  message.flags = 0;
  int64_t got = call3(SYS_recvmsg, socket, &message, 0x40000000 /* MSG_CMSG_CLOEXEC */);
  if (got < 0) return got;
  if (got == 0) return -104;
  if (message.control_length < 16) return 0;
  int64_t count = (int64_t)(control.length - 16) / 4;
  for (int64_t i = 0; i < count && i < STUB_MAX_FDS; ++i) fds[i] = control.fds[i];
  return count;
}

static void run_batch(Slot* slot) {
  int32_t fds[STUB_MAX_FDS];
  int64_t received = 0;
  slot->executed = 0;
  if (slot->receive != 0) received = receive(slot->socket, fds);
  slot->received = (int32_t)received;
  uint32_t count = slot->count;
  if (count > STUB_MAX_OPS || received < 0) count = 0;
  for (uint32_t i = 0; i < count; ++i) {
    struct StubOp* op = &slot->ops[i];
    uint64_t args[6];
    for (int a = 0; a < 6; ++a) args[a] = op->args[a];
    uint32_t which = op->fd_argument, index = op->fd_index;
    if (which >= 1 && which <= 6 && index < STUB_MAX_FDS && (int64_t)index < received) args[which - 1] = (uint64_t)fds[index];
    op->result = call6(op->number, args[0], args[1], args[2], args[3], args[4], args[5]);
    slot->executed = i + 1;
    if (op->stop_on_error && op->result < 0 && op->result > -4096) break;
  }
  for (int64_t i = 0; i < received && i < STUB_MAX_FDS; ++i) call3(SYS_close, fds[i], 0, 0);
}

static void serve(Slot* slot);
static void obey(Slot* slot);

// A new thread or process is here; its frame has been put into its slot.
__attribute__((noreturn, used)) void stub_child(Slot* slot) {
  // A guest that has a GS base of its own hands that on.
  if (slot->thunks && gs_base() >> 32 == STUB_SLOTS >> 32) set_gs_base(slot);
  uint64_t stack[3];
  stack[0] = (uint64_t)slot + STUB_STACK_OFFSET;
  stack[1] = 0;
  stack[2] = STUB_SLOT_SIZE - STUB_STACK_OFFSET;
  call3(SYS_sigaltstack, stack, 0, 0);
  // The kernel learns from the message's credentials, which nobody can forge, which process has come.
  // A thread is not waited for: the kernel has the turn already, or has given it back by now.
  if (slot->announce) {
    call3(SYS_write, slot->socket, slot, 1);
    slot->event = STUB_EVENT_CHILD;
    give_turn(slot);
  }
  obey(slot);
  __builtin_unreachable();
}

// After a fork: the same slot address is other memory now.
__attribute__((noreturn, used)) void stub_fork_child(Slot* slot, uint64_t new_slots, uint64_t new_socket, uint64_t old_socket) {
  call3(SYS_close, old_socket, 0, 0);
  call3(SYS_close, new_slots, 0, 0);
  slot->socket = (uint32_t)new_socket;
  stub_child(slot);
}

static void run_clone(Slot* slot) {
  int32_t fds[STUB_MAX_FDS];
  const uint64_t flags = slot->clone_flags, child_slot = slot->clone_slot, tid = slot->clone_child_tid, tls = slot->clone_tls;
  // The child begins below the frame that the kernel has put into its slot.
  const uint64_t stack = (child_slot + (slot->frame_offset & (STUB_SLOT_SIZE - 1)) - 512) & ~15ULL;
  int64_t result;
  if (slot->clone_new_memory) {
    int64_t received = receive(slot->socket, fds);
    if (received != 2) {
      slot->clone_result = received < 0 ? received : -71;
      return;
    }
    // In registers only until the child has memory of its own: the slot and the stack are shared with the parent until then.
    register uint64_t r10 __asm__("r10") = tid;
    register uint64_t r8 __asm__("r8") = 0;
    register uint64_t r12 __asm__("r12") = (uint64_t)fds[0];
    register uint64_t r13 __asm__("r13") = (uint64_t)fds[1];
    register uint64_t r14 __asm__("r14") = slot->socket;
    register uint64_t r15 __asm__("r15") = child_slot;
    register uint64_t rbx __asm__("rbx") = stack;
    __asm__ volatile(
        "syscall\n\t"
        "test %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "mov %%r12, %%r8\n\t"
        "movabs %[slots], %%rdi\n\t"
        "mov %[size], %%rsi\n\t"
        "mov $3, %%edx\n\t"
        "mov $0x11, %%r10d\n\t"
        "xor %%r9d, %%r9d\n\t"
        "mov $9, %%eax\n\t"
        "syscall\n\t"
        "test %%rax, %%rax\n\t"
        "js 2f\n\t"
        "mov %%rbx, %%rsp\n\t"
        "mov %%r15, %%rdi\n\t"
        "mov %%r12, %%rsi\n\t"
        "mov %%r13, %%rdx\n\t"
        "mov %%r14, %%rcx\n\t"
        "xor %%ebp, %%ebp\n\t"
        "movabs $stub_fork_child, %%rax\n\t"
        "call *%%rax\n\t"
        "2:\n\t"
        "mov $1, %%edi\n\t"
        "mov $231, %%eax\n\t"
        "syscall\n\t"
        "hlt\n\t"
        "1:\n\t"
        : "=a"(result), "+r"(r8)
        : "a"(SYS_clone), "D"(flags), "S"(0), "d"(0), "r"(r10), "r"(r12), "r"(r13), "r"(r14), "r"(r15),
          "r"(rbx), [slots] "i"(STUB_SLOTS), [size] "i"(STUB_SLOTS_SIZE)
        : "rcx", "r11", "memory");
    call3(SYS_close, fds[0], 0, 0);
    call3(SYS_close, fds[1], 0, 0);
  } else {
    register uint64_t r10 __asm__("r10") = tid;
    register uint64_t r8 __asm__("r8") = tls;
    register uint64_t r15 __asm__("r15") = child_slot;
    __asm__ volatile(
        "syscall\n\t"
        "test %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "mov %%r15, %%rdi\n\t"
        "xor %%ebp, %%ebp\n\t"
        "movabs $stub_child, %%rax\n\t"
        "call *%%rax\n\t"
        "hlt\n\t"
        "1:\n\t"
        : "=a"(result)
        : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(0), "r"(r10), "r"(r8), "r"(r15)
        : "rcx", "r11", "memory");
  }
  slot->clone_result = result;
}

// Back to the guest, by the frame whose context this is.
__attribute__((noreturn)) static void leave(uint64_t context) {
  __asm__ volatile(
      "mov %0, %%rsp\n\t"
      "mov $15, %%eax\n\t"
      "syscall\n\t"
      "hlt" ::"r"(context)
      : "memory");
  __builtin_unreachable();
}

// Gives the turn to the kernel and obeys.
static void serve(Slot* slot) {
  give_turn(slot);
  obey(slot);
}

// Does what the kernel, which has the turn, asks, until it asks to go on in the guest. Returns for a thunk's call only.
static void obey(Slot* slot) {
  for (;; give_turn(slot)) {
    await_turn(slot);
    const int lost = take_back(slot);
    switch (slot->request) {
      case STUB_RESUME: {
        if (__atomic_load_n(&slot->attention, __ATOMIC_SEQ_CST)) {
          slot->attention = 0;
          slot->signal = STUB_INTERRUPT_SIGNAL;
          slot->event = STUB_EVENT_SIGNAL;
          continue;
        }
        const uint64_t frame = (uint64_t)slot + (slot->frame_offset & (STUB_SLOT_SIZE - 1));
        leave(frame);
      }
      case STUB_BATCH:
        run_batch(slot);
        break;
      case STUB_CLONE:
        run_clone(slot);
        break;
      case STUB_FRAME:
        call3(STUB_FRAME_SYSCALL, 0, 0, 0);
        break;
      case STUB_RETURN:
        fast_of(slot)->rax = lost ? (uint64_t)-14L : slot->rax;  // EFAULT
        return;
      default:
        call3(SYS_exit_group, 1, 0, 0);
    }
    slot->event = STUB_EVENT_DONE;
  }
}

// The parts of a SIGSYS's siginfo (sigaction(2)) and of a signal frame's context that are needed here.
struct Trap {
  int32_t signal, error, code, pad;
  uint64_t address;
  int32_t number;
  uint32_t arch;
};
struct Context {
  uint64_t flags, link, stack[3];
  struct {
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  } regs;
};
#define SYS_SECCOMP 1
#define ARCH_X86_64 0xc000003eU

// A call that the kernel has answered beforehand: its value, or -1.
static inline int64_t answer(const Slot* slot, uint64_t number) {
  if (!slot->answer) return -1;
  switch (number) {
    case SYS_getpid:
      return slot->pid;
    case SYS_gettid:
      return slot->tid;
    case SYS_getppid:
      return slot->parent;
    case SYS_getuid:
      return slot->uid;
    case SYS_geteuid:
      return slot->euid;
    case SYS_getgid:
      return slot->gid;
    case SYS_getegid:
      return slot->egid;
    default:
      return -1;
  }
}

// Calls from thunks. The kernel's interrupt may arrive at each instruction of them, since no signal is blocked: until the last look at
// StubSlot.attention it is only noted there, from then on the guest's registers are all in StubFast (stub_signal, settle_thunk).
extern char stub_thunk_entry[], stub_thunk_leave[], stub_thunk_left[], stub_thunk_pass[], stub_thunk_end[];
extern char stub_native_call[], stub_native_end[];

// Serves a thunk's call until the guest may go on. Nonzero: the guest is to make the call itself.
__attribute__((used)) int stub_thunk_call(Slot* slot) {
  struct StubFast* fast = fast_of(slot);
  const uint64_t number = fast->rax;
  const uint64_t* native = (const uint64_t*)STUB_NATIVE_MAP;
  const int64_t value = answer(slot, number);
  if (value >= 0) {
    fast->rax = (uint64_t)value;
    return 0;
  }
  if (number < 512 && (native[number / 64] >> (number % 64) & 1) != 0) return 1;
  pass(slot, fast);
  // Now all that goes into the turn's cache line, and nothing between: the kernel, which may be looking at it, would have the line back.
  slot->passes = (slot->passed.count | slot->passed.out.size) != 0;
  slot->rax = number;
  slot->arguments[0] = fast->rdi;
  slot->arguments[1] = fast->rsi;
  slot->arguments[2] = fast->rdx;
  slot->arguments[3] = fast->r10;
  slot->arguments[4] = fast->r8;
  slot->arguments[5] = fast->r9;
  slot->event = STUB_EVENT_FAST;
  serve(slot);
  return 0;
}

// The kernel wants the thread's attention before the guest goes on. passes: the call has not been made yet.
__attribute__((used)) int stub_thunk_attend(Slot* slot, int passes) {
  struct StubFast* fast = fast_of(slot);
  __atomic_store_n(&slot->attention, 0, __ATOMIC_SEQ_CST);
  if (passes) fast->rip -= 2;
  slot->event = STUB_EVENT_FAST_INTERRUPT;
  serve(slot);
  if (passes) fast->rip += 2;
  return passes;
}

// From a thunk, with the guest's registers but r11 and rcx, which a call destroys: r11 is the call in the thunk. The direct way on must not
// change flags before they are saved. The upper half of the GS base says whether it is ours: not that of a guest that uses GS itself.
// Offsets: StubFast at 0x1000, eight bytes per register; StubSlot.attention at 0x40.
__asm__(
    ".text\n.globl stub_thunk_entry\nstub_thunk_entry:\n\t"
    "rdgsbase %rcx\n\t"
    "bswap %rcx\n\t"
    "mov %ecx, %ecx\n\t"
    "lea -0x007e0000(%rcx), %ecx\n\t"
    "jrcxz 1f\n\t"
    "jmp *%r11\n"
    "1:\n\t"
    "mov %rsp, %gs:0x1078\n\t"
    "rdgsbase %rcx\n\t"
    "lea 0x2000(%rcx), %rsp\n\t"
    "pushfq\n\t"
    "popq %gs:0x1088\n\t"
    "cld\n\t"
    "mov %r8, %gs:0x1000\n\t"
    "mov %r9, %gs:0x1008\n\t"
    "mov %r10, %gs:0x1010\n\t"
    "mov %r12, %gs:0x1020\n\t"
    "mov %r13, %gs:0x1028\n\t"
    "mov %r14, %gs:0x1030\n\t"
    "mov %r15, %gs:0x1038\n\t"
    "mov %rdi, %gs:0x1040\n\t"
    "mov %rsi, %gs:0x1048\n\t"
    "mov %rbp, %gs:0x1050\n\t"
    "mov %rbx, %gs:0x1058\n\t"
    "mov %rdx, %gs:0x1060\n\t"
    "mov %rax, %gs:0x1068\n\t"
    "mov %r11, %gs:0x1090\n\t"
    "mov -8(%r11), %rax\n\t"
    "mov %rax, %gs:0x1070\n\t"  // rcx and rip: behind the call
    "mov %rax, %gs:0x1080\n\t"
    "mov %gs:0x1088, %rax\n\t"
    "mov %rax, %gs:0x1018\n\t"  // r11: the flags
    "mov %rcx, %rdi\n\t"
    "movabs $stub_thunk_call, %rax\n\t"
    "call *%rax\n"
    "2:\n\t"
    "test %eax, %eax\n\t"
    "jnz 3f\n\t"
    "cmpl $0, %gs:0x40\n"
    // To the guest. From here on StubFast says what its registers are.
    ".globl stub_thunk_leave\nstub_thunk_leave:\n\t"
    "jne 4f\n\t"
    "mov %gs:0x1000, %r8\n\t"
    "mov %gs:0x1008, %r9\n\t"
    "mov %gs:0x1010, %r10\n\t"
    "mov %gs:0x1040, %rdi\n\t"
    "mov %gs:0x1048, %rsi\n\t"
    "mov %gs:0x1060, %rdx\n\t"
    "mov %gs:0x1068, %rax\n\t"
    "mov %gs:0x1070, %rcx\n\t"
    "mov %gs:0x1090, %r11\n\t"
    "lea 2(%r11), %r11\n\t"
    "mov %r11, %gs:0x1098\n\t"
    "mov %gs:0x1018, %r11\n\t"
    "pushq %gs:0x1088\n\t"
    "popfq\n\t"
    "mov %gs:0x1078, %rsp\n\t"
    "jmp *%gs:0x1098\n"
    ".globl stub_thunk_left\nstub_thunk_left:\n"
    "3:\n\t"
    "cmpl $0, %gs:0x40\n"
    // To the call in the thunk, which is made natively or traps. From here on StubFast says what the registers were before it.
    ".globl stub_thunk_pass\nstub_thunk_pass:\n\t"
    "jne 5f\n\t"
    "mov %gs:0x1000, %r8\n\t"
    "mov %gs:0x1008, %r9\n\t"
    "mov %gs:0x1010, %r10\n\t"
    "mov %gs:0x1040, %rdi\n\t"
    "mov %gs:0x1048, %rsi\n\t"
    "mov %gs:0x1060, %rdx\n\t"
    "mov %gs:0x1068, %rax\n\t"
    "mov %gs:0x1090, %r11\n\t"
    "pushq %gs:0x1088\n\t"
    "popfq\n\t"
    "mov %gs:0x1078, %rsp\n\t"
    "jmp *%r11\n"
    ".globl stub_thunk_end\nstub_thunk_end:\n"
    "4:\n\t"
    "xor %esi, %esi\n\t"
    "jmp 6f\n"
    "5:\n\t"
    "mov $1, %esi\n"
    "6:\n\t"
    "rdgsbase %rdi\n\t"
    "movabs $stub_thunk_attend, %rax\n\t"
    "call *%rax\n\t"
    "jmp 2b\n");

// Whether a signal that has arrived in our own code is done with. Else the frame shows the guest's registers now.
static inline int settle_thunk(Slot* slot, int signal, const struct Trap* trap, struct Context* context) {
  struct StubFast* fast = fast_of(slot);
  const uint64_t rip = context->regs.rip;
  if (rip - STUB_BLOB >= STUB_BLOB_SIZE || (rip >= (uint64_t)stub_native_call && rip < (uint64_t)stub_native_end)) return 0;
  // A guest that steps through its own code does not see ours.
  if (signal == 5) return trap->code == 2;
  // Its memory is not as its call has said.
  if (signal == 11 || signal == 7) {
    if (rip == (uint64_t)stub_copying)
      context->regs.rip = (uint64_t)stub_copied;
    else if (rip == (uint64_t)stub_reading)
      context->regs.rip = (uint64_t)stub_unreadable;
    else if (rip == (uint64_t)stub_probing)
      context->regs.rip = (uint64_t)stub_not_writable;
    else
      return 0;
    return 1;
  }
  if (signal != STUB_INTERRUPT_SIGNAL) return 0;
  const int leaves = rip >= (uint64_t)stub_thunk_leave && rip < (uint64_t)stub_thunk_left;
  const int passes = rip >= (uint64_t)stub_thunk_pass && rip < (uint64_t)stub_thunk_end;
  if (!leaves && !passes) {
    __atomic_store_n(&slot->attention, 1, __ATOMIC_SEQ_CST);
    return 1;
  }
  slot->attention = 0;
  const uint64_t* from = &fast->r8;
  uint64_t* to = &context->regs.r8;
  for (int i = 0; i < 18; ++i) to[i] = from[i];
  if (passes) context->regs.rip -= 2;
  return 0;
}

// Every host signal: SIGSYS for a call that is the kernel's, faults, and the kernel's interrupt.
__attribute__((noreturn, used)) void stub_signal(int signal, const struct Trap* trap, struct Context* context) {
  Slot* slot = slot_of_stack();
  if ((uint64_t)slot < STUB_SLOTS || (uint64_t)slot >= STUB_SLOTS + STUB_SLOTS_SIZE) call3(SYS_exit_group, 1, 0, 0);
  if (signal == 31 && trap->code == SYS_SECCOMP && trap->arch == ARCH_X86_64) {
    const int64_t value = answer(slot, (uint64_t)trap->number);
    // Now and then the kernel sees one, for it to count (kernel/patch).
    if (value >= 0 && !(slot->thunks && ++slot->answered % STUB_ANSWERS_UNSEEN == 0)) {
      context->regs.rax = (uint64_t)value;
      leave((uint64_t)context);
    }
  }
  if (settle_thunk(slot, signal, trap, context)) leave((uint64_t)context);
  slot->signal = (uint32_t)signal;
  slot->frame_offset = (uint64_t)context - (uint64_t)slot;
  slot->info_offset = (uint64_t)trap - (uint64_t)slot;
  slot->event = STUB_EVENT_SIGNAL;
  serve(slot);
  __builtin_unreachable();
}

// The host calls this with its frame at rsp; the C function wants rsp + 8 aligned to 16, as after a call. Clears the direction flag.
__asm__(
    ".text\n.globl stub_handler\nstub_handler:\n\t"
    "cld\n\t"
    "movabs $stub_signal, %rax\n\t"
    "jmp *%rax\n"
    ".globl stub_restorer\nstub_restorer:\n\t"
    "mov $15, %eax\n\t"
    "syscall\n\t"
    "hlt\n"
    // Entered with a guest's registers: it may be interrupted at each of these instructions (platform/stub_thread.cc, native_result).
    ".globl stub_native_call\nstub_native_call:\n\t"
    "syscall\n\t"
    "mov %rax, %rdi\n\t"
    "mov $0xca156, %eax\n\t"  // STUB_NATIVE_DONE
    "syscall\n\t"
    "hlt\n"
    ".globl stub_native_end\nstub_native_end:\n");

// The new stub: maps its slots, and traps for its first frame.
__attribute__((noreturn, used)) void stub_fresh(uint64_t slots_fd, uint64_t socket, uint64_t zygote_socket) {
  call3(SYS_close, zygote_socket, 0, 0);
  if (call6(SYS_mmap, STUB_SLOTS, STUB_SLOTS_SIZE, PROT_RW, MAP_SHARED_FIXED, slots_fd, 0) < 0) call3(SYS_exit_group, 2, 0, 0);
  call3(SYS_close, slots_fd, 0, 0);
  Slot* slot = (Slot*)STUB_SLOTS;
  uint64_t stack[3];
  stack[0] = (uint64_t)slot + STUB_STACK_OFFSET;
  stack[1] = 0;
  stack[2] = STUB_SLOT_SIZE - STUB_STACK_OFFSET;
  call3(SYS_sigaltstack, stack, 0, 0);
  slot->socket = (uint32_t)socket;
  if (slot->thunks) set_gs_base(slot);
  call3(SYS_write, socket, slot, 1);
  for (;;) call3(STUB_START_SYSCALL, 0, 0, 0);
}

// The zygote: has this blob and one page of stack, and one descriptor. Each request carries a new stub's slots and socket; the answer is
// a byte, 0 or an errno, and the new stub itself, which reports on its slot.
__attribute__((noreturn, used)) void stub_zygote(uint64_t socket) {
  for (;;) {
    int32_t fds[STUB_MAX_FDS];
    int64_t received = receive((uint32_t)socket, fds);
    if (received == -4) continue;
    if (received != 2) call3(SYS_exit_group, 0, 0, 0);
    // CLONE_PARENT: the stub is the kernel's child. SIGCHLD.
    int64_t child = call6(SYS_clone, 0x00008000 | 17, 0, 0, 0, 0, 0);
    if (child == 0) stub_fresh((uint64_t)fds[0], (uint64_t)fds[1], socket);
    const uint8_t error = child < 0 ? (uint8_t)-child : 0;
    call3(SYS_write, socket, &error, 1);
    call3(SYS_close, fds[0], 0, 0);
    call3(SYS_close, fds[1], 0, 0);
  }
}

// The zygote begins here, on its own stack: everything below and above the blob and the stack goes, but the vDSO (rsi to rdx) and what
// belongs to it.
__attribute__((noreturn, used)) void stub_zygote_start(uint64_t socket, uint64_t keep_from, uint64_t keep_to) {
  call3(SYS_munmap, 0x1000, STUB_WINDOW - 0x1000, 0);
  const uint64_t after_blob = STUB_BLOB + STUB_BLOB_SIZE;
  call3(SYS_munmap, after_blob, STUB_ZYGOTE - after_blob, 0);
  const uint64_t after_stack = STUB_ZYGOTE + STUB_ZYGOTE_SIZE;
  const uint64_t top = 0x7ffffffff000ULL;
  if (keep_from > after_stack && keep_to > keep_from && keep_to < top) {
    call3(SYS_munmap, after_stack, keep_from - after_stack, 0);
    call3(SYS_munmap, keep_to, top - keep_to, 0);
  } else {
    call3(SYS_munmap, after_stack, top - after_stack, 0);
  }
  stub_zygote(socket);
}

extern char stub_handler[], stub_restorer[];
__attribute__((section(".header"), used)) static const struct StubHeader header = {
    .magic = STUB_MAGIC,
    .zygote_entry = (uint64_t)stub_zygote_start,
    .signal_handler = (uint64_t)stub_handler,
    .restorer = (uint64_t)stub_restorer,
    .native_call = (uint64_t)stub_native_call,
    .thunk_entry = (uint64_t)stub_thunk_entry,
};
