// A guest's /init for tests of the hypervisor alone: loads the modules as the agent does, says Hello on the agent port, mounts the share and answers questions about it,
// one line in ("stat PATH", "write PATH TEXT", ...), one line out. Plain C, static, no more than the tests ask.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static void say(const char* what, int failed) {
  printf("test-init: %s: %s\n", what, failed ? strerror(errno) : "done");
  fflush(stdout);
}

static void load_modules(void) {
  FILE* list = fopen("/etc/caisson/modules", "re");
  if (!list) return;
  char name[256];
  while (fgets(name, sizeof name, list)) {
    name[strcspn(name, "\n")] = 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) say(name, 1);
    if (fd >= 0) close(fd);
  }
  fclose(list);
}

static int open_port(void) {
  for (int tries = 0; tries < 5000; ++tries, usleep(1000)) {
    DIR* ports = opendir("/sys/class/virtio-ports");
    struct dirent* entry;
    while (ports && (entry = readdir(ports))) {
      char path[512], name[64] = "";
      snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
      FILE* file = fopen(path, "re");
      if (!file) continue;
      if (!fgets(name, sizeof name, file)) name[0] = 0;
      fclose(file);
      if (strcmp(name, "caisson.agent\n") != 0) continue;
      snprintf(path, sizeof path, "/dev/%s", entry->d_name);
      int fd = open(path, O_RDWR | O_CLOEXEC);
      if (fd >= 0) {
        closedir(ports);
        return fd;
      }
    }
    if (ports) closedir(ports);
  }
  return -1;
}

// The answer to one question, or errno's name.
static void answer(char* line, char* out, size_t size) {
  char *verb = strtok(line, " "), *path = strtok(NULL, " "), *text = strtok(NULL, " ");
  struct stat st;
  char buffer[4096];
  int fd = -1;
  ssize_t n = 0;
  snprintf(out, size, "ok");
  errno = 0;
  if (!verb) {
    snprintf(out, size, "empty");
    return;
  }
  if (!strcmp(verb, "mount")) {  // mount virtiofs|9p TAG
    mkdir("/share", 0755);
    const char* options = !strcmp(path, "9p") ? "trans=virtio,version=9p2000.L,cache=mmap,msize=524288,access=client,xattr" : NULL;
    if (mount(text, "/share", path, 0, options)) goto failed;
  } else if (!strcmp(verb, "stat")) {
    if (lstat(path, &st)) goto failed;
    snprintf(out, size, "mode=%o uid=%u gid=%u nlink=%lu size=%lu rdev=%u:%u", st.st_mode, st.st_uid, st.st_gid, (unsigned long)st.st_nlink, (unsigned long)st.st_size,
             major(st.st_rdev), minor(st.st_rdev));
  } else if (!strcmp(verb, "write")) {
    fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) goto failed;
  } else if (!strcmp(verb, "read")) {
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (n = read(fd, buffer, sizeof buffer - 1)) < 0) goto failed;
    buffer[n] = 0;
    snprintf(out, size, "%s", buffer);
  } else if (!strcmp(verb, "chown")) {
    if (lchown(path, (uid_t)atoi(text), (gid_t)atoi(text))) goto failed;
  } else if (!strcmp(verb, "chmod")) {
    if (chmod(path, (mode_t)strtol(text, NULL, 8))) goto failed;
  } else if (!strcmp(verb, "mkdir")) {
    if (mkdir(path, 0755)) goto failed;
  } else if (!strcmp(verb, "link")) {
    if (link(path, text)) goto failed;
  } else if (!strcmp(verb, "symlink")) {
    if (symlink(path, text)) goto failed;
  } else if (!strcmp(verb, "rename")) {
    if (rename(path, text)) goto failed;
  } else if (!strcmp(verb, "unlink")) {
    if (unlink(path)) goto failed;
  } else if (!strcmp(verb, "mknod")) {  // a character device 1:3 (null)
    if (mknod(path, S_IFCHR | 0666, makedev(1, 3))) goto failed;
  } else if (!strcmp(verb, "mkfifo")) {
    if (mkfifo(path, 0600)) goto failed;
  } else if (!strcmp(verb, "setxattr")) {
    if (lsetxattr(path, "user.caisson", text, strlen(text), 0)) goto failed;
  } else if (!strcmp(verb, "getxattr")) {
    if ((n = lgetxattr(path, "user.caisson", buffer, sizeof buffer - 1)) < 0) goto failed;
    buffer[n] = 0;
    snprintf(out, size, "%s", buffer);
  } else if (!strcmp(verb, "lock")) {  // a POSIX lock, or with a third word an exclusive flock, seen by another process as taken
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fd < 0 || (text ? flock(fd, LOCK_EX | LOCK_NB) : fcntl(fd, F_SETLK, &whole))) goto failed;
    pid_t child = fork();
    if (child == 0) {
      int other = open(path, O_RDWR | O_CLOEXEC);
      struct flock wish = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
      int taken = text ? flock(other, LOCK_EX | LOCK_NB) : fcntl(other, F_SETLK, &wish);
      _exit(taken && (errno == EWOULDBLOCK || errno == EACCES) ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    snprintf(out, size, "seen=%d", WEXITSTATUS(status));
  } else if (!strcmp(verb, "mmap")) {  // text written through a shared mapping
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, 4096)) goto failed;
    char* map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) goto failed;
    strcpy(map, text);
    if (msync(map, 4096, MS_SYNC)) goto failed;
    munmap(map, 4096);
  } else if (!strcmp(verb, "throughput")) {  // MiB/s of writing and reading 64 MiB
    static char block[1 << 20];
    struct timespec t0, t1, t2;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
    if (fd < 0) goto failed;
    for (int i = 0; i < 64; ++i)
      if (write(fd, block, sizeof block) != sizeof block) goto failed;
    close(fd);
    clock_gettime(CLOCK_MONOTONIC, &t1);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 64; ++i)
      if (fd < 0 || read(fd, block, sizeof block) <= 0) goto failed;
    clock_gettime(CLOCK_MONOTONIC, &t2);
    double w = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec), r = (double)(t2.tv_sec - t1.tv_sec) + 1e-9 * (double)(t2.tv_nsec - t1.tv_nsec);
    snprintf(out, size, "write=%.0f read=%.0f", 64 / w, 64 / r);
  } else if (!strcmp(verb, "sleep")) {  // so many milliseconds, by the guest's clock
    struct timespec t0, t1, rest = {0, atol(path) * 1000000};
    clock_gettime(CLOCK_MONOTONIC, &t0);
    if (nanosleep(&rest, NULL)) goto failed;
    clock_gettime(CLOCK_MONOTONIC, &t1);
    snprintf(out, size, "%ld", (long)((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000));
  } else if (!strcmp(verb, "memory")) {
    FILE* file = fopen("/proc/meminfo", "re");
    if (file && fgets(buffer, sizeof buffer, file)) snprintf(out, size, "%.*s", (int)strcspn(buffer, "\n"), buffer);
    if (file) fclose(file);
  } else if (!strcmp(verb, "cpus")) {
    snprintf(out, size, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
  } else if (!strcmp(verb, "oops")) {
    printf("test-init: about to end, \x1b[31mcolours\x1b[0m\n");
    fflush(stdout);
    reboot(RB_AUTOBOOT);
  } else {
    snprintf(out, size, "unknown");
  }
  if (fd >= 0) close(fd);
  return;
failed:
  snprintf(out, size, "%s", strerrorname_np(errno) ? strerrorname_np(errno) : "?");
  if (fd >= 0) close(fd);
}

// In a jail: what this process is, and whether one thing can be done. One line on standard output.
static int probe(const char* what) {
  char line[256], status[1024] = "";
  if (!strcmp(what, "identity")) {
    FILE* file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
      if (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNewPrivs", 10) || !strncmp(line, "Seccomp:", 8) || !strncmp(line, "Groups", 6)) {
        line[strcspn(line, "\n")] = ' ';
        strcat(status, line);
      }
    int descriptors = 0;
    for (int fd = 3; fd < 1024; ++fd) descriptors += fcntl(fd, F_GETFD) >= 0;
    if (file) --descriptors;
    printf("uid=%u gid=%u pid=%d descriptors=%d passwd=%d sys=%d sysctl=%d %s\n", getuid(), getgid(), getpid(), descriptors, access("/etc/passwd", F_OK) == 0, access("/sys/kernel", F_OK) == 0,
           access("/proc/sys/kernel", F_OK) == 0, status);
  } else if (!strcmp(what, "write-library")) {
    errno = 0;
    (void)!open("/usr/lib/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    puts(strerrorname_np(errno));
  } else if (!strcmp(what, "write-root")) {
    errno = 0;
    (void)!open("/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    puts(strerrorname_np(errno));
  } else if (!strcmp(what, "socket")) {
    errno = 0;
    syscall(SYS_socket, 1, 1, 0);
    puts(strerrorname_np(errno));
  } else if (!strcmp(what, "fork")) {
    errno = 0;
    if (fork() == 0) _exit(0);
    puts(strerrorname_np(errno));
  } else if (!strcmp(what, "mount")) {
    mount("x", "/", "tmpfs", 0, NULL);
    puts("alive");
  } else if (!strcmp(what, "sleep")) {
    for (;;) {
      struct timespec rest = {1, 0};
      nanosleep(&rest, NULL);
    }
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 3 && !strcmp(argv[1], "probe")) return probe(argv[2]);
  if (getpid() != 1) {
    fprintf(stderr, "this is the init of a test guest\n");
    return 64;
  }
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) && errno != EBUSY) say("devtmpfs", 1);
  load_modules();
  int port = open_port();
  if (port < 0) {
    say("no agent port", 0);
    reboot(RB_AUTOBOOT);
  }
  const uint8_t hello[12 + 8] = {8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'C', 'A', 'I', 'S', 'S', 'O', 'N', '1'};
  if (write(port, hello, sizeof hello) != sizeof hello) say("hello", 1);
  char line[4096];
  size_t have = 0;
  for (;;) {
    ssize_t n = read(port, line + have, sizeof line - 1 - have);
    if (n <= 0) {  // 0: the host side is not connected
      usleep(1000);
      continue;
    }
    have += (size_t)n;
    char* end = memchr(line, '\n', have);
    if (!end) continue;
    *end = 0;
    char reply[4200];
    answer(line, reply, sizeof reply - 2);
    strcat(reply, "\n");
    if (write(port, reply, strlen(reply)) < 0) say("reply", 1);
    have = 0;
  }
}
