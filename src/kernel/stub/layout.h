/* What the kernel process and a stub process share: addresses and the slot of a guest thread. Read by the blob (C, freestanding) and by the
 * kernel (C++). The guest can write all of a slot at any time: the kernel reads a word once and checks it. */
#pragma once

#ifdef __cplusplus
#include <cstddef>
#include <cstdint>
extern "C" {
#else
#include <stdint.h>
#endif

/* The window: address space that guests must leave alone. Below where the host puts stacks and mappings, above what programs choose. */
#define STUB_WINDOW 0x7e0000000000ULL
#define STUB_BLOB STUB_WINDOW /* the blob, read and execute, 64 KiB */
#define STUB_BLOB_SIZE 0x10000ULL
#define STUB_TRAP_FILTER (STUB_BLOB + STUB_BLOB_SIZE - 0x1000) /* struct sock_fprog and its instructions, put here by the kernel */
#define STUB_ZYGOTE (STUB_WINDOW + 0x100000ULL)                /* the zygote's own page and stack; unmapped in stubs */
#define STUB_ZYGOTE_SIZE 0x8000ULL
#define STUB_SLOTS (STUB_WINDOW + 0x10000000ULL)
#define STUB_SLOT_SIZE 0x8000ULL /* 32 KiB: the words, then the signal stack, which must hold an AVX-512 and AMX frame */
#define STUB_MAX_SLOTS 4096ULL
#define STUB_SLOTS_SIZE (STUB_SLOT_SIZE * STUB_MAX_SLOTS)
#define STUB_WINDOW_END (STUB_WINDOW + 0x40000000ULL)
#define STUB_FAST_OFFSET 0x1000ULL /* struct StubFast within a slot; the rest of its page is the stack of calls from thunks */
#define STUB_ROOM_OFFSET 0x2000ULL /* what calls from thunks pass in and out (struct StubPassed) */
#define STUB_ROOM_SIZE 0x1000ULL
#define STUB_STACK_OFFSET 0x3000ULL               /* the signal stack within a slot */
#define STUB_NATIVE_MAP (STUB_TRAP_FILTER - 0x40) /* a bit per call that the host's filter lets pass natively, 512 bits */

#define STUB_INTERRUPT_SIGNAL 12     /* SIGUSR2: the kernel wants the thread's attention */
#define STUB_NATIVE_DONE 0xca156UL   /* a call that the kernel had the stub make in the guest's place is done; its result is in rdi */
#define STUB_START_SYSCALL 0xca155UL /* a number that no Linux has: a fresh stub traps with it to get its first frame */
#define STUB_FRAME_SYSCALL 0xca157UL /* the same for STUB_FRAME */

#define STUB_FREE_LOOKS 32 /* so often a side that spins looks at the turn before it asks the clock how long it has */

#define STUB_ANSWERS_UNSEEN 16 /* with StubSlot.thunks: of calls that trap and could be answered every 16th is the kernel's */

/* Values of StubSlot.turn, the futex word of the handoff. */
enum { STUB_TURN_GUEST = 0, STUB_TURN_KERNEL = 1, STUB_TURN_DEAD = 2, STUB_TURN_ENDING = 3 /* the guest's, for a last time */ };

/* What the kernel asks when it gives the turn to the stub (StubSlot.request). */
enum {
  STUB_RESUME = 1, /* sigreturn to the frame at frame_offset */
  STUB_BATCH = 2,  /* receive `receive` descriptors, run ops[0..count), close the descriptors, give the turn back */
  STUB_CLONE = 3,  /* receive descriptors, clone as clone_* says, give the turn back; the child gives the turn back on its own slot */
  STUB_FRAME = 4,  /* after STUB_EVENT_FAST*: trap, so that there is a frame; its registers are of no use, its FP state is the guest's */
  STUB_RETURN = 5, /* after STUB_EVENT_FAST*: back to the guest, with `result` */
};

/* What the stub reports when it gives the turn to the kernel (StubSlot.event). */
enum {
  STUB_EVENT_SIGNAL = 1,         /* a host signal: `signal`, frame at frame_offset */
  STUB_EVENT_DONE = 2,           /* a batch or a clone is done */
  STUB_EVENT_CHILD = 3,          /* a new process is here for the first time */
  STUB_EVENT_FAST = 4,           /* a call from a thunk: the registers are in StubFast, there is no frame */
  STUB_EVENT_FAST_INTERRUPT = 5, /* the same, where the kernel wanted the thread's attention meanwhile; no call */
};

#define STUB_MAX_OPS 32
#define STUB_MAX_FDS 16

struct StubOp {
  uint64_t number;
  uint64_t args[6];
  int64_t result;
  uint32_t fd_argument; /* 1 + the index of the argument that received descriptor fd_index replaces; 0: none */
  uint32_t fd_index;
  uint32_t stop_on_error; /* a failure (-4095..-1) ends the batch; `executed` says how far it came */
  uint32_t pad;
};

/* Guest memory that travels through the slot's room (STUB_ROOM_OFFSET), so that the kernel need not reach into the guest's for it. */
struct StubPiece {
  uint64_t address; /* the guest's */
  uint32_t size;    /* 0: there is none */
  uint32_t at;      /* within the room */
};
#define STUB_MOST_PIECES 4
#define STUB_PATH_PIECE 256U /* so much of a text at most, and not beyond its page */
struct StubPassed {
  uint32_t count;
  uint32_t pad;
  struct StubPiece out;                  /* may be written, as far as the guest's memory was then */
  struct StubPiece back;                 /* the kernel's: to be copied out of the room when the stub has the turn */
  struct StubPiece in[STUB_MOST_PIECES]; /* copies, made before the call */
};

struct StubSlot {
  /* The first cache line (64 bytes) is all that moves between the two sides in a call from a thunk that passes no memory: each line that
   * does costs 0.1 us where they are on two CPUs. */
  uint32_t turn;
  uint8_t event;
  uint8_t passes; /* STUB_EVENT_FAST: 1: something in `passed` */
  uint8_t request;
  uint8_t gives_back;    /* STUB_RETURN, STUB_FRAME, STUB_RESUME: 1: `passed.back` */
  uint64_t rax;          /* STUB_EVENT_FAST: the call's number; STUB_RETURN: what it returns */
  uint64_t arguments[6]; /* STUB_EVENT_FAST: rdi, rsi, rdx, r10, r8, r9 */
  /* The second line: looked at in each call, written seldom. */
  /* 1: the kernel's interrupt has come while the thread was in our own code: looked at before the guest goes on. blob.c knows the offset.
   */
  uint32_t attention;
  /* 1: the stub answers the calls for these itself; 0: every call is the kernel's (a guest with a seccomp filter, --strace) */
  uint32_t answer;
  uint32_t spin;     /* so many ticks (RDTSC) the stub looks at `turn` before it sleeps */
  uint32_t sleeping; /* 1: the stub sleeps on `turn`, a wake-up is needed */
  uint32_t kernel_sleeping;
  uint32_t thunks; /* 1: a new thread takes its slot's address as GS base, for thunks to find it */
  uint32_t pid, tid, parent, uid, euid, gid, egid;
  uint32_t socket; /* the stub's descriptor for messages from the kernel */
  uint32_t signal;
  struct StubPassed passed; /* STUB_EVENT_FAST; what most calls use of it is one line */
  uint64_t frame_offset;    /* of the host's rt_sigframe within the slot: points at uc, 8 after the return address */
  uint64_t info_offset;     /* of the siginfo within the slot */
  uint32_t answered;        /* so many calls have trapped and been answered */
  /* STUB_BATCH */
  uint32_t count;
  uint32_t receive;
  uint32_t executed;
  int32_t received; /* how many descriptors came, or a negative errno */
  int32_t fds[STUB_MAX_FDS];
  /* STUB_CLONE */
  uint64_t clone_flags;
  uint64_t clone_slot; /* address of the child's slot */
  uint64_t clone_child_tid;
  uint64_t clone_tls;
  int64_t clone_result;
  uint32_t clone_new_memory; /* 1: received descriptor 0 is the child's slots, 1 its socket */
  uint32_t announce;         /* the new thread is a process: it writes a byte to its socket */
  struct StubOp ops[STUB_MAX_OPS];
};

/* A call from a thunk (src/kernel/patch): the guest's registers, in the order of a signal frame. The kernel looks here only for those that
 * the slot's first line does not have. blob.c knows the offsets by heart. */
struct StubFast {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint64_t call; /* in the thunk, the call instruction; what returns goes on behind it */
  uint64_t next; /* where the blob jumps to */
};

/* At the start of the blob. All addresses are absolute. */
struct StubHeader {
  uint64_t magic;
  uint64_t zygote_entry; /* never returns; rdi = socket, rsi = 0 */
  uint64_t signal_handler;
  uint64_t restorer;
  uint64_t native_call; /* where the kernel lets a guest thread go on to make the call in its registers natively (STUB_NATIVE_DONE) */
  uint64_t thunk_entry; /* where thunks jump to; r11 = StubFast.call, and the guest's address behind the call in the 8 bytes before it */
  uint64_t end;
};
#define STUB_MAGIC 0x6275747373696143ULL

/* What the kernel tells the zygote, as one message with two descriptors: the new stub's slots and its socket. */
struct ZygoteRequest {
  uint32_t command; /* 1: make a stub */
  uint32_t pad;
};

#ifdef __cplusplus
}
static_assert(sizeof(StubSlot) <= STUB_FAST_OFFSET && sizeof(StubFast) == 0xa0);
static_assert(offsetof(StubSlot, attention) == 0x40 && offsetof(StubSlot, passed) == 0x80 && offsetof(StubFast, next) == 0x98);
#endif
