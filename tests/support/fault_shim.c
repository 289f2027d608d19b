/* A library to preload into the daemon: makes the calls that change files of one directory fail, stop
   halfway, or be the last that the process made, and writes down which there were.

   Counted are, on files and directories at or below PF_DIR: open that creates, write, pwrite, writev,
   pwritev, fsync, fdatasync, rename, unlink, ftruncate, fallocate, posix_fallocate, mkdir. Calls count
   from 1.

   PF_DIR           absolute path of the directory; nothing is done without it
   PF_KILL_AT=n     SIGKILL before the n-th call
   PF_KILL_AFTER=n  SIGKILL after the n-th call
   PF_ENOSPC_AT=n[,m]  the n-th call and those after it, m in all (1), fail with ENOSPC if they ask for space
   PF_EIO_AT=n      the n-th call fails with EIO, but for syncs
   PF_EIO_FSYNC_AT=n  the n-th call of fsync or fdatasync fails with EIO
   PF_SHORT=1       writes take about half of what they are given, and each third is interrupted first
   PF_COUNT_FILE    is mapped and holds the number of calls and of syncs, two 64-bit numbers
   PF_LOG           gets a line for each call that succeeded, see tests/support/fault_shim.py

   Threads: any. With PF_LOG one call runs at a time, so that the log is in the order of what happened. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS_MAX = 4096 };

enum kind { MAKES_ROOM, WRITES, CHANGES, SYNCS };

struct counts {
  _Atomic uint64_t calls;
  _Atomic uint64_t syncs;
};

static const char *directory;
static size_t directory_length;
static uint64_t kill_at, kill_after, enospc_at, enospc_count, eio_at, eio_fsync_at;
static int short_writes;
static int log_fd = -1;
static struct counts own_counts;
static struct counts *counts = &own_counts;
static _Atomic uint64_t writes;
static char *_Atomic path_of_fd[FDS_MAX]; /* of files and directories at or below the directory */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name)                                                \
  static __typeof__(name) *real;                                  \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static uint64_t number(const char *name) {
  const char *value = getenv(name);
  return value ? strtoull(value, NULL, 10) : 0;
}

__attribute__((constructor)) static void read_environment(void) {
  const char *where = getenv("PF_DIR");
  if (!where || !*where) return;
  kill_at = number("PF_KILL_AT");
  kill_after = number("PF_KILL_AFTER");
  enospc_at = number("PF_ENOSPC_AT");
  const char *comma = getenv("PF_ENOSPC_AT") ? strchr(getenv("PF_ENOSPC_AT"), ',') : NULL;
  enospc_count = comma ? strtoull(comma + 1, NULL, 10) : 1;
  eio_at = number("PF_EIO_AT");
  eio_fsync_at = number("PF_EIO_FSYNC_AT");
  short_writes = number("PF_SHORT") != 0;

  const char *count_path = getenv("PF_COUNT_FILE");
  if (count_path) {
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, count_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && syscall(SYS_ftruncate, fd, (off_t)sizeof *counts) == 0) {
      void *mapped = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (mapped != MAP_FAILED) counts = mapped;
    }
    if (fd >= 0) syscall(SYS_close, fd);
  }
  const char *log_path = getenv("PF_LOG");
  if (log_path) {
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                          0600);
  }
  directory_length = strlen(where);
  directory = where;
}

/* Which paths are ours. */

static int is_inside(const char *path) {
  return directory && strncmp(path, directory, directory_length) == 0 &&
         (path[directory_length] == '\0' || path[directory_length] == '/');
}

static const char *path_of(int fd) { return fd >= 0 && fd < FDS_MAX ? path_of_fd[fd] : NULL; }

/* The absolute path if it is ours, else NULL. */
static const char *resolve(int dir_fd, const char *path, char *buffer, size_t size) {
  if (!directory) return NULL;
  if (path[0] == '/') return is_inside(path) ? path : NULL;
  const char *base = path_of(dir_fd);
  char name[64], elsewhere[PATH_MAX / 4];
  if (!base) { /* opened above the directory, which may be below it all the same */
    snprintf(name, sizeof name, "/proc/self/fd/%d", dir_fd);
    const ssize_t length = readlink(name, elsewhere, sizeof elsewhere - 1);
    if (length < 0) return NULL;
    elsewhere[length] = '\0';
    base = elsewhere;
  }
  const int is_itself = strcmp(path, ".") == 0;
  snprintf(buffer, size, "%s%s%s", base, is_itself ? "" : "/", is_itself ? "" : path);
  return is_inside(buffer) ? buffer : NULL;
}

static void remember(int fd, const char *path) {
  if (fd < 0 || fd >= FDS_MAX) return;
  free(atomic_exchange(&path_of_fd[fd], path ? strdup(path) : NULL));
}

/* The log. */

static const char *below(const char *path) {
  return path[directory_length] == '/' ? path + directory_length + 1 : "";
}

static uint64_t inode_of(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? (uint64_t)status.st_ino : 0;
}

static void log_bytes(const void *bytes, size_t size) {
  while (size > 0) {
    const ssize_t written = syscall(SYS_write, log_fd, bytes, size);
    if (written <= 0) return;
    bytes = (const char *)bytes + written;
    size -= (size_t)written;
  }
}

__attribute__((format(printf, 1, 2))) static void log_line(const char *format, ...) {
  if (log_fd < 0) return;
  char line[2 * PATH_MAX];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  log_bytes(line, (size_t)length);
}

/* `write INODE OFFSET LENGTH`, and then the bytes and a newline. */
static void log_write(int fd, off_t offset, const struct iovec *pieces, int piece_count,
                      ssize_t written) {
  if (log_fd < 0 || written <= 0) return;
  log_line("write %llu %lld %zd\n", (unsigned long long)inode_of(fd), (long long)offset, written);
  size_t left = (size_t)written;
  for (int i = 0; i < piece_count && left > 0; ++i) {
    const size_t size = pieces[i].iov_len < left ? pieces[i].iov_len : left;
    log_bytes(pieces[i].iov_base, size);
    left -= size;
  }
  log_line("\n");
}

/* One call: what has to happen to it, and what it leaves. */

struct call {
  uint64_t at;
  int error; /* it fails with this */
};

static struct call begin(enum kind kind) {
  if (log_fd >= 0) pthread_mutex_lock(&order);
  struct call call = {atomic_fetch_add(&counts->calls, 1) + 1, 0};
  if (call.at == kill_at) kill(getpid(), SIGKILL);
  if (kind == SYNCS) {
    if (atomic_fetch_add(&counts->syncs, 1) + 1 == eio_fsync_at) call.error = EIO;
  } else if (call.at == eio_at) {
    call.error = EIO;
  }
  if ((kind == MAKES_ROOM || kind == WRITES) && enospc_at && call.at >= enospc_at &&
      call.at - enospc_at < enospc_count) {
    call.error = ENOSPC;
  }
  if (kind == WRITES && short_writes && !call.error && atomic_fetch_add(&writes, 1) % 3 == 2) {
    call.error = EINTR;
  }
  return call;
}

static void end(const struct call *call) {
  if (log_fd >= 0) pthread_mutex_unlock(&order);
  if (call->at == kill_after) kill(getpid(), SIGKILL);
}

static int failed(const struct call *call) {
  end(call);
  errno = call->error;
  return -1;
}

/* Runs `expression` as one call of the kind and returns its result; `logged` when it succeeded. */
#define AS_A_CALL(type, kind, expression, logged)   \
  do {                                              \
    struct call call_ = begin(kind);                \
    if (call_.error) return (type)failed(&call_);   \
    const type result = (expression);               \
    const int error_ = errno;                       \
    if (result >= 0) {                              \
      logged;                                       \
    }                                               \
    end(&call_);                                    \
    errno = error_;                                 \
    return result;                                  \
  } while (0)

/* Opening and closing. */

typedef int open_call(int dir_fd, const char *path, int flags, mode_t mode);

static int open_at(open_call *real, int dir_fd, const char *path, int flags, mode_t mode) {
  char buffer[PATH_MAX];
  const char *ours = resolve(dir_fd, path, buffer, sizeof buffer);
  if (!ours) return real(dir_fd, path, flags, mode);
  if (!(flags & O_CREAT)) {
    const int fd = real(dir_fd, path, flags, mode);
    remember(fd, ours);
    if (fd >= 0 && (flags & O_TRUNC)) log_line("truncate %llu 0\n", (unsigned long long)inode_of(fd));
    return fd;
  }
  AS_A_CALL(int, MAKES_ROOM, real(dir_fd, path, flags, mode), {
    remember(result, ours);
    log_line("create %llu %s\n", (unsigned long long)inode_of(result), below(ours));
  });
}

static mode_t mode_of(int flags, va_list arguments) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

static int plain_openat(int dir_fd, const char *path, int flags, mode_t mode) {
  static int (*real)(int, const char *, int, ...);
  if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
  return real(dir_fd, path, flags, mode);
}

#define DEFINE_OPEN(name)                                              \
  int name(const char *path, int flags, ...) {                         \
    va_list arguments;                                                 \
    va_start(arguments, flags);                                        \
    const mode_t mode = mode_of(flags, arguments);                     \
    va_end(arguments);                                                 \
    return open_at(plain_openat, AT_FDCWD, path, flags, mode);         \
  }
#define DEFINE_OPENAT(name)                                            \
  int name(int dir_fd, const char *path, int flags, ...) {             \
    va_list arguments;                                                 \
    va_start(arguments, flags);                                        \
    const mode_t mode = mode_of(flags, arguments);                     \
    va_end(arguments);                                                 \
    return open_at(plain_openat, dir_fd, path, flags, mode);           \
  }

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

int close(int fd) {
  REAL(close);
  if (path_of(fd)) remember(fd, NULL);
  return real(fd);
}

// It closes the descriptor behind close()'s back.
int closedir(DIR *stream) {
  REAL(closedir);
  int fd = dirfd(stream);
  if (path_of(fd)) remember(fd, NULL);
  return real(stream);
}

/* Writing. */

/* The first pieces of about half of the bytes, at least one byte. */
static int half_of(const struct iovec *pieces, int count, struct iovec *half) {
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += pieces[i].iov_len;
  size_t left = (bytes + 1) / 2;
  int taken = 0;
  for (; taken < count && left > 0; ++taken) {
    half[taken] = pieces[taken];
    if (half[taken].iov_len > left) half[taken].iov_len = left;
    left -= half[taken].iov_len;
  }
  return taken;
}

/* `offset` -1: where the file stands. */
static ssize_t write_pieces(int fd, const struct iovec *pieces, int count, off_t offset) {
  static ssize_t (*real_writev)(int, const struct iovec *, int);
  static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
  if (!real_writev) {
    real_pwritev = (ssize_t(*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, "pwritev");
    real_writev = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
  }
  if (!path_of(fd)) {
    return offset < 0 ? real_writev(fd, pieces, count) : real_pwritev(fd, pieces, count, offset);
  }
  struct iovec half[IOV_MAX];
  if (short_writes) {
    count = half_of(pieces, count, half);
    pieces = half;
  }
  const off_t at = offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR);
  AS_A_CALL(ssize_t, WRITES,
            offset < 0 ? real_writev(fd, pieces, count) : real_pwritev(fd, pieces, count, offset),
            log_write(fd, at, pieces, count, result));
}

ssize_t write(int fd, const void *bytes, size_t size) {
  REAL(write);
  if (!path_of(fd)) return real(fd, bytes, size);
  const struct iovec piece = {(void *)(uintptr_t)bytes, size};
  return write_pieces(fd, &piece, 1, -1);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
  return write_pieces(fd, pieces, count, -1);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
  REAL(pwrite);
  if (!path_of(fd)) return real(fd, bytes, size, offset);
  const struct iovec piece = {(void *)(uintptr_t)bytes, size};
  return write_pieces(fd, &piece, 1, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset) {
  return pwrite(fd, bytes, size, offset);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset) {
  return write_pieces(fd, pieces, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off_t offset) {
  return write_pieces(fd, pieces, count, offset);
}

/* Flags are let go: they ask for speed. */
ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags) {
  REAL(pwritev2);
  if (!path_of(fd)) return real(fd, pieces, count, offset, flags);
  return write_pieces(fd, pieces, count, offset);
}
ssize_t pwritev64v2(int fd, const struct iovec *pieces, int count, off_t offset, int flags) {
  return pwritev2(fd, pieces, count, offset, flags);
}

int ftruncate(int fd, off_t size) {
  REAL(ftruncate);
  if (!path_of(fd)) return real(fd, size);
  AS_A_CALL(int, CHANGES, real(fd, size),
            log_line("truncate %llu %lld\n", (unsigned long long)inode_of(fd), (long long)size));
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int mode, off_t offset, off_t size) {
  REAL(fallocate);
  if (!path_of(fd)) return real(fd, mode, offset, size);
  AS_A_CALL(int, MAKES_ROOM, real(fd, mode, offset, size), {
    if (mode == 0) {
      log_line("extend %llu %lld\n", (unsigned long long)inode_of(fd), (long long)(offset + size));
    }
  });
}
int fallocate64(int fd, int mode, off_t offset, off_t size) {
  return fallocate(fd, mode, offset, size);
}

static int allocate(int fd, off_t offset, off_t size) {
  static int (*real)(int, off_t, off_t);
  if (!real) real = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate");
  const int error = real(fd, offset, size);
  errno = error;
  return error ? -1 : 0;
}
static int allocate_ours(int fd, off_t offset, off_t size) {
  AS_A_CALL(int, MAKES_ROOM, allocate(fd, offset, size),
            log_line("extend %llu %lld\n", (unsigned long long)inode_of(fd),
                     (long long)(offset + size)));
}
/* Tells its error by its result, and leaves errno alone. */
int posix_fallocate(int fd, off_t offset, off_t size) {
  const int before = errno;
  const int result = path_of(fd) ? allocate_ours(fd, offset, size) : allocate(fd, offset, size);
  const int error = result ? errno : 0;
  errno = before;
  return error;
}
int posix_fallocate64(int fd, off_t offset, off_t size) { return posix_fallocate(fd, offset, size); }

/* Syncing. */

static void log_sync(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return;
  if (S_ISDIR(status.st_mode)) {
    log_line("sync_directory %s\n", below(path_of(fd)));
  } else {
    log_line("sync %llu\n", (unsigned long long)status.st_ino);
  }
}

int fsync(int fd) {
  REAL(fsync);
  if (!path_of(fd)) return real(fd);
  AS_A_CALL(int, SYNCS, real(fd), log_sync(fd));
}

int fdatasync(int fd) {
  REAL(fdatasync);
  if (!path_of(fd)) return real(fd);
  AS_A_CALL(int, SYNCS, real(fd), log_sync(fd));
}

/* Names. */

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
  REAL(renameat);
  char from_buffer[PATH_MAX];
  char to_buffer[PATH_MAX];
  const char *ours = resolve(from_fd, from, from_buffer, sizeof from_buffer);
  const char *target = resolve(to_fd, to, to_buffer, sizeof to_buffer);
  if (!ours || !target) return real(from_fd, from, to_fd, to);
  AS_A_CALL(int, MAKES_ROOM, real(from_fd, from, to_fd, to),
            log_line("rename %s %s\n", below(ours), below(target)));
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int dir_fd, const char *path, int flags) {
  REAL(unlinkat);
  char buffer[PATH_MAX];
  const char *ours = resolve(dir_fd, path, buffer, sizeof buffer);
  if (!ours) return real(dir_fd, path, flags);
  AS_A_CALL(int, CHANGES, real(dir_fd, path, flags), log_line("remove %s\n", below(ours)));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

int mkdirat(int dir_fd, const char *path, mode_t mode) {
  REAL(mkdirat);
  char buffer[PATH_MAX];
  const char *ours = resolve(dir_fd, path, buffer, sizeof buffer);
  if (!ours) return real(dir_fd, path, mode);
  AS_A_CALL(int, MAKES_ROOM, real(dir_fd, path, mode), log_line("mkdir %s\n", below(ours)));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
