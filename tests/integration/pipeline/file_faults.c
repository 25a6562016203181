/* Makes one call on a file below a folder fail, or kills the process that makes it: LD_PRELOAD of
 * the commands that a test starts.
 *
 * FAULT_FOLDER  folder below which calls count
 * FAULT_COUNT   file that holds the number of calls so far, shared by all processes
 * FAULT_AT      number of the call that fails, from 1
 * FAULT_ERRNO   its error; 0 for a write of half of the bytes
 * FAULT_CALLS   name of the calls that count; all if it is not set
 * FAULT_KILL    `before` or `after`: instead, SIGKILL before or after the call
 * FAULT_LOG     file to which each call that counts is written: its name, then the file's path
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static __thread char seen[2 * PATH_MAX]; /* path of the latest call */
static __thread int dies;                /* whether this process is killed after the call */

static int below(const char *path) {
  const char *folder = getenv("FAULT_FOLDER");
  if (path && path != seen) snprintf(seen, sizeof seen, "%s", path);
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

static void log_call(const char *call) {
  const char *name = getenv("FAULT_LOG");
  int file = name ? REAL(open)(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
  if (file < 0) return;
  char line[sizeof seen + 32];
  int length = snprintf(line, sizeof line, "%s %s\n", call, seen);
  if (REAL(write)(file, line, length) < 0) dies = 1;
  REAL(close)(file);
}

/* Count a call; return whether it is the one that fails. */
static int due(const char *call) {
  const char *name = getenv("FAULT_COUNT"), *only = getenv("FAULT_CALLS");
  const char *kills = getenv("FAULT_KILL");
  char text[32] = "";
  log_call(call);
  if (!name || (only && strcmp(only, call))) return 0;
  int file = REAL(open)(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return 0;
  flock(file, LOCK_EX);
  if (REAL(pread)(file, text, sizeof text - 1, 0) < 0) text[0] = 0;
  long count = atol(text) + 1;
  int length = snprintf(text, sizeof text, "%ld", count);
  if (REAL(pwrite)(file, text, length, 0) < 0) count = 0;
  REAL(close)(file);
  int found = count == atol(getenv("FAULT_AT"));
  if (!found || !kills) return found;
  if (!strcmp(kills, "before")) kill(getpid(), SIGKILL);
  dies = 1;
  return 0;
}

static long done(long result) {
  if (dies) kill(getpid(), SIGKILL);
  return result;
}

static int fails(const char *call) {
  if (!due(call)) return 0;
  int error = atoi(getenv("FAULT_ERRNO"));
  if (!error) return 0;
  errno = error;
  return 1;
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
  if (of(descriptor) && due("write")) {
    errno = atoi(getenv("FAULT_ERRNO"));
    if (errno) return -1;
    return REAL(write)(descriptor, bytes, count > 1 ? count / 2 : count);
  }
  return done(REAL(write)(descriptor, bytes, count));
}

#define ONE(name)                                              \
  int name(int descriptor) {                                   \
    if (of(descriptor) && fails(#name)) return -1;             \
    return done(REAL(name)(descriptor));                       \
  }
ONE(fsync)
ONE(fdatasync)

#define TRUNCATE(name, type)                                   \
  int name(int descriptor, type length) {                      \
    if (of(descriptor) && fails("ftruncate")) return -1;       \
    return done(REAL(name)(descriptor, length));               \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
  return at(AT_FDCWD, from) && fails("rename") ? -1 : done(REAL(rename)(from, to));
}
int link(const char *from, const char *to) {
  return at(AT_FDCWD, from) && fails("link") ? -1 : done(REAL(link)(from, to));
}
int linkat(int one, const char *from, int other, const char *to, int flags) {
  return at(one, from) && fails("link") ? -1 : done(REAL(linkat)(one, from, other, to, flags));
}

#define OPEN(name)                                                               \
  int name(const char *path, int flags, ...) {                                   \
    va_list more;                                                                \
    va_start(more, flags);                                                       \
    mode_t mode = va_arg(more, mode_t);                                          \
    va_end(more);                                                                \
    int writes = flags & (O_WRONLY | O_RDWR);                                    \
    if (writes && at(AT_FDCWD, path) && fails("open")) return -1;                \
    return done(REAL(name)(path, flags, mode));                                  \
  }
OPEN(open)
OPEN(open64)
