// Capabilities that a file gives to whoever executes it (capabilities(7), "File capabilities").
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "harness.h"

namespace {

constexpr uint32_t kChown = 1U << CAP_CHOWN, kKill = 1U << CAP_KILL, kBind = 1U << CAP_NET_BIND_SERVICE;
constexpr const char* kAttribute = "security.capability";

struct Sets {
  uint32_t effective, permitted, inheritable;
};
Sets own() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  OK(syscall(SYS_capget, &header, data));
  return {data[0].effective, data[0].permitted, data[0].inheritable};
}
void set_own(uint32_t permitted, uint32_t inheritable) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {{permitted, permitted, inheritable}, {}};
  OK(syscall(SYS_capset, &header, data));
}

int give(const char* file, uint32_t permitted, uint32_t inheritable, bool effective) {
  vfs_cap_data data{};
  data.magic_etc = VFS_CAP_REVISION_2 | (effective ? VFS_CAP_FLAGS_EFFECTIVE : 0);
  data.data[0] = {permitted, inheritable};
  return setxattr(file, kAttribute, &data, sizeof data, 0);
}

// This program as ./program, which anybody may execute.
void copy_self() {
  const int from = OK(open("/proc/self/exe", O_RDONLY));
  const int to = OK(open("program", O_CREAT | O_TRUNC | O_WRONLY, 0755));
  while (OK(sendfile(to, from, nullptr, 1 << 20)) > 0)
    ;
  OK(fchmod(to, 0755));
  OK(close(from));
  OK(close(to));
  OK(chmod(".", 0777));
}

// What the program finds when it is executed is checked in there, by "shown" below.
[[noreturn]] void execute(uint32_t effective, uint32_t permitted, uint32_t ambient, bool secure) {
  char text[80];
  snprintf(text, sizeof text, "%x %x %x %d", effective, permitted, ambient, secure);
  setenv("CAPABILITIES_AGAIN", text, 1);
  rmdir("file_capabilities.shown");  // of the run before this
  close(1);
  execl("program", "program", ".", "file_capabilities.shown", nullptr);
  _exit(errno == EPERM ? 99 : 98);
}

void become(uid_t user) {
  OK(setresgid(user, user, user));
  OK(setresuid(user, user, user));
}

}  // namespace

TEST(file_capabilities, shown) {
  const char* wanted = getenv("CAPABILITIES_AGAIN");
  if (wanted == nullptr) return;
  uint32_t effective = 0, permitted = 0, ambient = 0;
  int secure = 0;
  EQ(sscanf(wanted, "%x %x %x %d", &effective, &permitted, &ambient, &secure), 4);
  const Sets sets = own();
  EQ(sets.effective, effective);
  EQ(sets.permitted, permitted);
  for (const int capability : {CAP_CHOWN, CAP_KILL, CAP_NET_BIND_SERVICE})
    EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0), ambient >> capability & 1);
  EQ(getauxval(AT_SECURE), secure);
}

TEST(file_capabilities, permitted_and_effective) {
  copy_self();
  OK(give("program", kChown | kKill, 0, true));
  EQ(in_child([] {
       become(1000);
       execute(kChown | kKill, kChown | kKill, 0, true);
     }),
     0);
  OK(give("program", kChown, 0, false));
  EQ(in_child([] {
       become(1000);
       execute(0, kChown, 0, true);
     }),
     0);
}

TEST(file_capabilities, inheritable_and_ambient) {
  copy_self();
  OK(give("program", 0, kChown, true));
  EQ(in_child([] {
       OK(prctl(PR_SET_KEEPCAPS, 1));
       become(1000);
       set_own(kChown | kKill, kChown | kKill);
       OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
       execute(kChown, kChown, 0, true);  // a file's capabilities put an end to ambient ones
     }),
     0);
  OK(removexattr("program", kAttribute));
  EQ(in_child([] {
       OK(prctl(PR_SET_KEEPCAPS, 1));
       become(1000);
       set_own(kChown | kKill, kChown | kKill);
       OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
       execute(kKill, kKill, kKill, false);
     }),
     0);
}

TEST(file_capabilities, of_root_and_by_bounding_set) {
  copy_self();
  OK(give("program", kChown | kKill, 0, true));
  const uint32_t all = own().permitted;
  // Root gets all that it may have; what a file says counts where root is nobody special.
  EQ(in_child([=] { execute(all, all, 0, false); }), 0);
  EQ(in_child([] {
       OK(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT));
       execute(kChown | kKill, kChown | kKill, 0, false);
     }),
     0);
  // What it asks for and cannot have is an error where it would not notice.
  EQ(in_child([] {
       OK(prctl(PR_CAPBSET_DROP, CAP_KILL));
       become(1000);
       execute(0, 0, 0, false);
     }),
     99);
  OK(give("program", kChown | kKill, 0, false));
  EQ(in_child([] {
       OK(prctl(PR_CAPBSET_DROP, CAP_KILL));
       become(1000);
       execute(0, kChown, 0, true);
     }),
     0);
}

// A set-user-ID file of root's that has capabilities makes the user root, with these capabilities alone.
TEST(file_capabilities, of_a_set_user_id_file) {
  copy_self();
  OK(chmod("program", 04755));
  OK(give("program", kBind, 0, true));
  EQ(in_child([] {
       become(1000);
       execute(kBind, kBind, 0, true);
     }),
     0);
}

TEST(file_capabilities, not_with_no_new_privileges) {
  copy_self();
  OK(give("program", kChown, 0, true));
  EQ(in_child([] {
       become(1000);
       OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
       execute(0, 0, 0, true);
     }),
     0);
}

TEST(file_capabilities, attribute) {
  const int fd = OK(open("file", O_CREAT | O_RDWR, 0755));
  OK(give("file", kChown, kKill, true));
  char value[64];
  EQ(getxattr("file", kAttribute, value, sizeof value), XATTR_CAPS_SZ_2);
  EQ(in_child([] {
       become(1000);
       char mine[64];
       EQ(getxattr("file", kAttribute, mine, sizeof mine), XATTR_CAPS_SZ_2);
       FAILS(give("file", kChown, 0, true), EPERM);
     }),
     0);
  FAILS(setxattr("file", kAttribute, "abc", 3, 0), EINVAL);
  // Whoever writes to the file, or gives it away, takes them from it.
  EQ(write(fd, "x", 1), 1);
  FAILS(getxattr("file", kAttribute, value, sizeof value), ENODATA);
  OK(give("file", kChown, kKill, true));
  OK(fchown(fd, 1, 1));
  FAILS(getxattr("file", kAttribute, value, sizeof value), ENODATA);
  OK(give("file", kChown, kKill, true));
  OK(ftruncate(fd, 0));
  FAILS(getxattr("file", kAttribute, value, sizeof value), ENODATA);
}
