/*
 * Preloaded into a process: records, in one total order, everything the process does to the files below a folder, and fails
 * chosen operations. The order is exact because one lock is held across each operation and the writing of its record.
 *
 * POSTERN_DISK_ROOT     the folder, an absolute path without symbolic links
 * POSTERN_DISK_LOG      the record; others may append to it, a record at a time
 * POSTERN_DISK_CONTROL  128 bytes shared with the test: which operation is to fail, and how
 *
 * A record: u32 length of what follows, u8 kind, u64 first, u64 second, u16 length and bytes of a path, u16 length and bytes
 * of another path, data. Integers are little-endian, paths relative to the folder. The kinds are those of `effect.rs`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, MAKE_FOLDER, WRITE, TRUNCATE, SYNC, SYNC_FAILED, RENAME, LINK, UNLINK, REMOVE_FOLDER, MARK, UNSUPPORTED };

/* What can be made to fail; bits of the first control word. */
enum fault { FAULT_WRITE = 1, FAULT_SYNC = 2, FAULT_RENAME = 4, FAULT_CREATE = 8, FAULT_UNLINK = 16, FAULT_TRUNCATE = 32 };

/* The control words, in this order. */
enum control { ARMED, COUNTDOWN, ERROR, TIMES, SEEN, FIRED, SHORT, CONTROL_WORDS = 16 };

static char root[PATH_MAX];
static size_t root_length;
static int log_file = -1;
static volatile uint64_t *control;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static void give_up(const char *why) {
    dprintf(2, "recorder: %s (%s)\n", why, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("POSTERN_DISK_ROOT"), *log = getenv("POSTERN_DISK_LOG"), *words = getenv("POSTERN_DISK_CONTROL");
    if (!folder || strlen(folder) >= sizeof root) return;
    if (log) {
        int opened = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
        if (opened < 0) give_up("cannot open the log");
        log_file = fcntl(opened, F_DUPFD_CLOEXEC, 900);
        if (log_file < 0) log_file = opened;
    }
    if (words) {
        int opened = syscall(SYS_openat, AT_FDCWD, words, O_RDWR | O_CLOEXEC, 0);
        void *shared = opened < 0 ? MAP_FAILED : mmap(NULL, CONTROL_WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
        if (shared == MAP_FAILED) give_up("cannot map the control words");
        control = shared;
    }
    strcpy(root, folder);
    root_length = strlen(folder);
}

/* The part of an absolute path below the root; NULL when it is elsewhere. */
static const char *below(const char *path) {
    if (!root_length || strncmp(path, root, root_length) || path[root_length] != '/') return NULL;
    return path + root_length + 1;
}

static int link_target(const char *link, char *target) {
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, target, PATH_MAX - 1);
    if (length < 0) return -1;
    target[length] = 0;
    return 0;
}

static const char *path_of(int file, char *buffer) {
    char link[64];
    if (!root_length) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    return link_target(link, buffer) < 0 ? NULL : below(buffer);
}

/* Where a path given to a call leads, if below the root. */
static const char *resolve(int folder, const char *path, char *buffer) {
    char base[PATH_MAX], link[64];
    if (!root_length || !path) return NULL;
    if (path[0] == '/') {
        snprintf(buffer, PATH_MAX, "%s", path);
    } else {
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        if (link_target(link, base) < 0 || snprintf(buffer, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return NULL;
    }
    return below(buffer);
}

static uint64_t inode_of(int file) {
    struct stat status;
    return fstat(file, &status) ? 0 : status.st_ino;
}

static void record(enum kind kind, uint64_t first, uint64_t second, const char *path, const char *other,
                   const struct iovec *data, int pieces, size_t data_length) {
    if (log_file < 0) return;
    int saved = errno;
    uint16_t path_length = path ? strlen(path) : 0, other_length = other ? strlen(other) : 0;
    uint32_t length = 1 + 8 + 8 + 2 + path_length + 2 + other_length + data_length;
    char head[21], between[2];
    memcpy(head, &length, 4);
    head[4] = kind;
    memcpy(head + 5, &first, 8);
    memcpy(head + 13, &second, 8);
    memcpy(between, &other_length, 2);
    char *whole = malloc(4 + length), *at = whole;
    if (!whole) give_up("no memory");
    at = mempcpy(at, head, 21);
    at = mempcpy(at, &path_length, 2);
    at = mempcpy(at, path ? path : "", path_length);
    at = mempcpy(at, between, 2);
    at = mempcpy(at, other ? other : "", other_length);
    for (int piece = 0; piece < pieces && data_length; piece++) {
        size_t part = data[piece].iov_len < data_length ? data[piece].iov_len : data_length;
        at = mempcpy(at, data[piece].iov_base, part);
        data_length -= part;
    }
    if (syscall(SYS_write, log_file, whole, 4 + (size_t)length) != (long)(4 + (size_t)length)) give_up("cannot write the log");
    free(whole);
    errno = saved;
}

static void record_path(enum kind kind, uint64_t first, uint64_t second, const char *path, const char *other) {
    record(kind, first, second, path, other, NULL, 0, 0);
}

/* Whether this operation is the one to fail; sets errno. Records of decisions are not subject: they are written when it suits. */
static int fails(enum fault fault, const char *path) {
    if (!control || !(control[ARMED] & fault) || strstr(path, "audit.db")) return 0;
    control[SEEN]++;
    if (control[COUNTDOWN] > 1) {
        control[COUNTDOWN]--;
        return 0;
    }
    if (!control[TIMES]) return 0;
    control[TIMES]--;
    control[FIRED]++;
    errno = control[ERROR];
    return 1;
}

static long write_at(int file, const struct iovec *data, int pieces, off_t offset) {
    char buffer[PATH_MAX];
    const char *path = path_of(file, buffer);
    struct iovec half;
    if (!path) {
        return offset < 0 ? syscall(SYS_writev, file, data, pieces) : syscall(SYS_pwritev, file, data, pieces, (long)offset, 0L);
    }
    pthread_mutex_lock(&order);
    long written = -1;
    int failing = fails(FAULT_WRITE, path);
    if (failing && control[SHORT] && pieces == 1 && data[0].iov_len > 1) {
        /* As on a disk that fills up: a part goes, the next one does not. */
        half.iov_base = data[0].iov_base;
        half.iov_len = data[0].iov_len / 2;
        data = &half;
        control[SHORT] = 0;
        control[TIMES]++;
        failing = 0;
    }
    if (!failing) {
        written = offset < 0 ? syscall(SYS_writev, file, data, pieces) : syscall(SYS_pwritev, file, data, pieces, (long)offset, 0L);
        if (written > 0) {
            off_t start = offset < 0 ? lseek(file, 0, SEEK_CUR) - written : offset;
            record(WRITE, inode_of(file), start, path, NULL, data, pieces, written);
        }
    }
    pthread_mutex_unlock(&order);
    return written;
}

ssize_t write(int file, const void *bytes, size_t length) {
    struct iovec whole = {(void *)bytes, length};
    return write_at(file, &whole, 1, -1);
}
ssize_t writev(int file, const struct iovec *data, int pieces) { return write_at(file, data, pieces, -1); }
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    struct iovec whole = {(void *)bytes, length};
    return write_at(file, &whole, 1, offset);
}
ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) { return pwrite64(file, bytes, length, offset); }
ssize_t pwritev64(int file, const struct iovec *data, int pieces, off64_t offset) { return write_at(file, data, pieces, offset); }
ssize_t pwritev(int file, const struct iovec *data, int pieces, off_t offset) { return write_at(file, data, pieces, offset); }

static int sync_file(int file, long number) {
    char buffer[PATH_MAX];
    const char *path = path_of(file, buffer);
    /* The folder itself has no path below itself. */
    if (!path && !(root_length && !strcmp(buffer, root))) return syscall(number, file);
    if (!path) path = "";
    pthread_mutex_lock(&order);
    /* A sync that fails leaves clean pages behind that never reached the disk. */
    int result = fails(FAULT_SYNC, path) ? -1 : syscall(number, file);
    record_path(result ? SYNC_FAILED : SYNC, inode_of(file), 0, path, NULL);
    pthread_mutex_unlock(&order);
    return result;
}
int fsync(int file) { return sync_file(file, SYS_fsync); }
int fdatasync(int file) { return sync_file(file, SYS_fdatasync); }

int ftruncate64(int file, off64_t size) {
    char buffer[PATH_MAX];
    const char *path = path_of(file, buffer);
    if (!path) return syscall(SYS_ftruncate, file, size);
    pthread_mutex_lock(&order);
    int result = fails(FAULT_TRUNCATE, path) ? -1 : syscall(SYS_ftruncate, file, size);
    if (!result) record_path(TRUNCATE, inode_of(file), size, path, NULL);
    pthread_mutex_unlock(&order);
    return result;
}
int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

static int open_at(int folder, const char *given, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *path = (flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE ? resolve(folder, given, buffer) : NULL;
    struct stat before;
    if (!path) return syscall(SYS_openat, folder, given, flags, mode);
    pthread_mutex_lock(&order);
    int existed = fstatat(folder, given, &before, 0) == 0, file = -1;
    if ((flags & O_TMPFILE) == O_TMPFILE) record_path(UNSUPPORTED, 0, 0, path, "O_TMPFILE");
    if (existed || !(flags & O_CREAT) || !fails(FAULT_CREATE, path)) file = syscall(SYS_openat, folder, given, flags, mode);
    if (file >= 0 && !existed) record_path(CREATE, inode_of(file), mode, path, NULL);
    if (file >= 0 && existed && (flags & O_TRUNC)) record_path(TRUNCATE, inode_of(file), 0, path, NULL);
    pthread_mutex_unlock(&order);
    return file;
}

#define MODE_ARGUMENT(flags)                                                    \
    mode_t mode = 0;                                                            \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {                \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode = va_arg(rest, mode_t);                                            \
        va_end(rest);                                                           \
    }
int open(const char *path, int flags, ...) { MODE_ARGUMENT(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_ARGUMENT(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE_ARGUMENT(flags) return open_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE_ARGUMENT(flags) return open_at(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int mkdirat(int folder, const char *given, mode_t mode) {
    char buffer[PATH_MAX];
    struct stat made;
    const char *path = resolve(folder, given, buffer);
    if (!path) return syscall(SYS_mkdirat, folder, given, mode);
    pthread_mutex_lock(&order);
    int result = fails(FAULT_CREATE, path) ? -1 : syscall(SYS_mkdirat, folder, given, mode);
    if (!result && !fstatat(folder, given, &made, 0)) record_path(MAKE_FOLDER, made.st_ino, mode, path, NULL);
    pthread_mutex_unlock(&order);
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int folder, const char *given, int flags) {
    char buffer[PATH_MAX];
    const char *path = resolve(folder, given, buffer);
    if (!path) return syscall(SYS_unlinkat, folder, given, flags);
    pthread_mutex_lock(&order);
    int result = fails(FAULT_UNLINK, path) ? -1 : syscall(SYS_unlinkat, folder, given, flags);
    if (!result) record_path(flags & AT_REMOVEDIR ? REMOVE_FOLDER : UNLINK, 0, 0, path, NULL);
    pthread_mutex_unlock(&order);
    return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

static int move(enum kind kind, int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *from_path = resolve(from_folder, from, from_buffer), *to_path = resolve(to_folder, to, to_buffer);
    long number = kind == RENAME ? SYS_renameat2 : SYS_linkat;
    if (!from_path && !to_path) return syscall(number, from_folder, from, to_folder, to, flags);
    pthread_mutex_lock(&order);
    int result = fails(FAULT_RENAME, to_path ? to_path : from_path) ? -1 : syscall(number, from_folder, from, to_folder, to, flags);
    if (!result && from_path && to_path && !(kind == RENAME && flags)) record_path(kind, 0, 0, from_path, to_path);
    else if (!result) record_path(UNSUPPORTED, 0, 0, from_path ? from_path : to_path, "moved across the folder's edge");
    pthread_mutex_unlock(&order);
    return result;
}
int rename(const char *from, const char *to) { return move(RENAME, AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_folder, const char *from, int to_folder, const char *to) { return move(RENAME, from_folder, from, to_folder, to, 0); }
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
    return move(RENAME, from_folder, from, to_folder, to, flags);
}
int link(const char *from, const char *to) { return move(LINK, AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    return move(LINK, from_folder, from, to_folder, to, flags);
}

/* What nobody uses so far. A record of it fails the test: then this file has to learn it. */
static void unsupported(int file, const char *what) {
    char buffer[PATH_MAX];
    const char *path = path_of(file, buffer);
    if (!path) return;
    pthread_mutex_lock(&order);
    record_path(UNSUPPORTED, 0, 0, path, what);
    pthread_mutex_unlock(&order);
}
void *mmap64(void *address, size_t length, int protection, int flags, int file, off64_t offset) {
    /* The write-ahead log's index is shared memory that every start makes anew. */
    char buffer[PATH_MAX];
    const char *path = file >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE) ? path_of(file, buffer) : NULL;
    if (path && !strstr(path, "-shm")) unsupported(file, "writable shared mapping");
    return (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
}
void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
    return mmap64(address, length, protection, flags, file, offset);
}
int fallocate64(int file, int mode, off64_t offset, off64_t length) {
    unsupported(file, "fallocate");
    return syscall(SYS_fallocate, file, mode, offset, length);
}
int fallocate(int file, int mode, off_t offset, off_t length) { return fallocate64(file, mode, offset, length); }
int posix_fallocate64(int file, off64_t offset, off64_t length) { return fallocate64(file, 0, offset, length) ? errno : 0; }
int posix_fallocate(int file, off_t offset, off_t length) { return posix_fallocate64(file, offset, length); }
ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t length, unsigned flags) {
    unsupported(to, "copy_file_range");
    return syscall(SYS_copy_file_range, from, from_offset, to, to_offset, length, flags);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t length) {
    unsupported(to, "sendfile");
    return syscall(SYS_sendfile, to, from, offset, length);
}
ssize_t sendfile(int to, int from, off_t *offset, size_t length) { return sendfile64(to, from, offset, length); }
