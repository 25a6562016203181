/* Makes one call on a file below a folder fail: LD_PRELOAD of the commands that a test starts.
 *
 * FAULT_FOLDER  folder below which calls count
 * FAULT_COUNT   file that holds the number of calls so far, shared by all processes
 * FAULT_AT      number of the call that fails, from 1
 * FAULT_ERRNO   its error; 0 for a write of half of the bytes
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int below(const char *path) {
  const char *folder = getenv("FAULT_FOLDER");
  return folder && path && !strncmp(path, folder, strlen(folder));
}

static int at(int folder, const char *path) { /* the folder of openat and its like */
  char whole[2 * PATH_MAX], link[64];
  if (path[0] == '/') return below(path);
  if (folder == AT_FDCWD) {
    if (!getcwd(whole, PATH_MAX)) return 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, whole, PATH_MAX);
    if (length < 0) return 0;
    whole[length] = 0;
  }
  strcat(whole, "/");
  strncat(whole, path, PATH_MAX);
  return below(whole);
}

static int of(int descriptor) {
  char link[64], path[PATH_MAX + 1];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, PATH_MAX);
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

/* Count a call; return whether it is the one that fails. */
static int due(void) {
  const char *name = getenv("FAULT_COUNT");
  char text[32] = "";
  if (!name) return 0;
  int file = REAL(open)(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return 0;
  flock(file, LOCK_EX);
  if (REAL(pread)(file, text, sizeof text - 1, 0) < 0) text[0] = 0;
  long count = atol(text) + 1;
  int length = snprintf(text, sizeof text, "%ld", count);
  if (REAL(pwrite)(file, text, length, 0) < 0) count = 0;
  REAL(close)(file);
  return count == atol(getenv("FAULT_AT"));
}

static int fails(void) {
  int error = atoi(getenv("FAULT_ERRNO"));
  if (!due() || !error) return 0;
  errno = error;
  return 1;
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
  if (of(descriptor) && due()) {
    errno = atoi(getenv("FAULT_ERRNO"));
    if (errno) return -1;
    return REAL(write)(descriptor, bytes, count > 1 ? count / 2 : count);
  }
  return REAL(write)(descriptor, bytes, count);
}

#define ONE(name) \
  int name(int descriptor) { return of(descriptor) && fails() ? -1 : REAL(name)(descriptor); }
ONE(fsync)
ONE(fdatasync)

int ftruncate(int descriptor, off_t length) {
  return of(descriptor) && fails() ? -1 : REAL(ftruncate)(descriptor, length);
}
int ftruncate64(int descriptor, off64_t length) {
  return of(descriptor) && fails() ? -1 : REAL(ftruncate64)(descriptor, length);
}
int rename(const char *from, const char *to) {
  return at(AT_FDCWD, from) && fails() ? -1 : REAL(rename)(from, to);
}
int link(const char *from, const char *to) {
  return at(AT_FDCWD, from) && fails() ? -1 : REAL(link)(from, to);
}
int linkat(int one, const char *from, int other, const char *to, int flags) {
  return at(one, from) && fails() ? -1 : REAL(linkat)(one, from, other, to, flags);
}

#define OPEN(name)                                                                 \
  int name(const char *path, int flags, ...) {                                     \
    va_list more;                                                                  \
    va_start(more, flags);                                                         \
    mode_t mode = va_arg(more, mode_t);                                            \
    va_end(more);                                                                  \
    int writes = flags & (O_WRONLY | O_RDWR);                                      \
    return writes && at(AT_FDCWD, path) && fails() ? -1 : REAL(name)(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)
