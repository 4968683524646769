// Fails chosen system calls that make or change files under a folder, once it is armed; for LD_PRELOAD.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, MKDIR, WRITE, SHORT, FSYNC, RENAME, TRUNCATE, CLOSE, KINDS };
static const char *const names[KINDS] = {"open", "mkdir", "write", "short", "fsync", "rename", "truncate", "close"};

// In a file that is mapped, so that a crash does not lose it: calls seen of each kind, calls that failed, and the path
// of the first one that did.
static struct shared {
    _Atomic long seen[KINDS], failed;
    char path[4096];
} own, *shared = &own;
static char under[4096];
static __thread char whole[8192];  // the path that is being looked at
static long which;
static int fails = -1, error, forever;
static _Atomic int full, armed;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) next = REAL(name)

// From now on the `k`-th call of `kind` under `folder` fails with `errnum`, and where `sticky` all that need space
// after it. A failing "short" call writes half of its bytes; it is the next write that fails, if `sticky`.
int faults_arm(const char *folder, const char *kind, long k, int errnum, int sticky, const char *counter) {
    int descriptor = open(counter, O_RDWR | O_CREAT, 0600);
    if (descriptor < 0 || ftruncate(descriptor, sizeof own)) return -1;
    void *mapped = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (close(descriptor) || mapped == MAP_FAILED || strlen(folder) >= sizeof under) return -1;
    shared = mapped;
    strcpy(under, folder);
    which = k, error = errnum, forever = sticky;
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(kind, names[i])) fails = i;
    armed = 1;
    return 0;
}

static int within(void) {
    size_t length = strlen(under);
    return !strncmp(whole, under, length) && (whole[length] == '/' || !whole[length]);
}

static int descriptor_within(int descriptor) {
    char link[32] = "/proc/self/cwd";
    if (descriptor != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, whole, 4095);
    if (length < 0) return 0;
    whole[length] = 0;
    return within();
}

static int path_within(int folder, const char *path) {
    if (path[0] != '/') {
        descriptor_within(folder);
        strcat(whole, "/");
    } else {
        whole[0] = 0;
    }
    strncat(whole, path, 4095);
    return within();
}

static void note(void) {
    if (!atomic_fetch_add(&shared->failed, 1)) strncpy(shared->path, whole, sizeof shared->path - 1);
}

// Whether this call is to fail; it is counted.
static int fault(int kind) {
    long number = atomic_fetch_add(&shared->seen[kind], 1) + 1;
    int now = full && (kind == OPEN || kind == MKDIR || kind == WRITE || kind == TRUNCATE);
    if (kind == fails && number == which) {
        now = 1;
        full = forever;
    }
    if (now) {
        note();
        errno = error;
    }
    return now;
}

// How many of `size` bytes may be written; -1 where the call is to fail.
static ssize_t allowed(int descriptor, size_t size) {
    if (!armed || !descriptor_within(descriptor)) return (ssize_t)size;
    if (fault(WRITE)) return -1;
    if (size < 2) return (ssize_t)size;
    long number = atomic_fetch_add(&shared->seen[SHORT], 1) + 1;
    if (fails != SHORT || number != which) return (ssize_t)size;
    note();
    full = forever;
    return (ssize_t)(size / 2);
}

ssize_t write(int descriptor, const void *bytes, size_t size) {
    NEXT(write);
    int before = errno;
    ssize_t most = allowed(descriptor, size);
    if (most < 0) return -1;
    errno = before;
    return next(descriptor, bytes, (size_t)most);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t place) {
    NEXT(pwrite);
    ssize_t most = allowed(descriptor, size);
    return most < 0 ? -1 : next(descriptor, bytes, (size_t)most, place);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t place) {
    NEXT(pwrite64);
    ssize_t most = allowed(descriptor, size);
    return most < 0 ? -1 : next(descriptor, bytes, (size_t)most, place);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    NEXT(writev);
    size_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    ssize_t most = allowed(descriptor, size);
    if (most < 0) return -1;
    if ((size_t)most == size) return next(descriptor, parts, count);
    struct iovec first = parts[0];  // half of the first part is short too
    first.iov_len = first.iov_len < (size_t)most ? first.iov_len : (size_t)most;
    return next(descriptor, &first, 1);
}

static int may_open(int folder, const char *path, int flags) {
    return !armed || !(flags & (O_CREAT | O_TRUNC)) || !path_within(folder, path) || !fault(OPEN);
}

#define OPEN_LIKE(name, folder, before, ...) \
    NEXT(name); \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    } \
    return may_open(folder, path, flags) ? next(__VA_ARGS__, mode) : -1

int open(const char *path, int flags, ...) { OPEN_LIKE(open, AT_FDCWD, , path, flags); }
int open64(const char *path, int flags, ...) { OPEN_LIKE(open64, AT_FDCWD, , path, flags); }
int openat(int folder, const char *path, int flags, ...) { OPEN_LIKE(openat, folder, , folder, path, flags); }
int openat64(int folder, const char *path, int flags, ...) { OPEN_LIKE(openat64, folder, , folder, path, flags); }

int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

#define FOPEN_LIKE(name) \
    FILE *name(const char *path, const char *mode) { \
        NEXT(name); \
        return may_open(AT_FDCWD, path, strpbrk(mode, "wa") ? O_CREAT : 0) ? next(path, mode) : NULL; \
    }
FOPEN_LIKE(fopen)
FOPEN_LIKE(fopen64)

// Of a folder that is there already the kernel says so, full disk or not.
int mkdirat(int folder, const char *path, mode_t mode) {
    NEXT(mkdirat);
    int new = armed && path_within(folder, path) && faccessat(folder, path, F_OK, 0);
    return new && fault(MKDIR) ? -1 : next(folder, path, mode);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

#define ON_DESCRIPTOR(name, kind) \
    int name(int descriptor) { \
        NEXT(name); \
        return armed && descriptor_within(descriptor) && fault(kind) ? -1 : next(descriptor); \
    }
ON_DESCRIPTOR(fsync, FSYNC)
ON_DESCRIPTOR(fdatasync, FSYNC)

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    NEXT(renameat2);
    int failing = armed && path_within(to_folder, to) && fault(RENAME);
    return failing ? -1 : next(from_folder, from, to_folder, to, flags);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

#define TRUNCATE_LIKE(name, type) \
    int name(int descriptor, type size) { \
        NEXT(name); \
        return armed && descriptor_within(descriptor) && fault(TRUNCATE) ? -1 : next(descriptor, size); \
    }
TRUNCATE_LIKE(ftruncate, off_t)
TRUNCATE_LIKE(ftruncate64, off64_t)

// A failing close closes all the same, as the kernel does; only of files that are open for writing.
int close(int descriptor) {
    NEXT(close);
    int failing = 0, before = errno;
    if (armed && fcntl(descriptor, F_GETFL) > 0 && (fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_RDONLY)
        failing = descriptor_within(descriptor) && fault(CLOSE);
    errno = before;
    int done = next(descriptor);
    if (!failing) return done;
    errno = error;
    return -1;
}
