/* Records what a process does to the files of one folder, in order, with the data: for tests.faults.power.

   Built into a library for LD_PRELOAD. POWER_FOLDER is the folder, POWER_RECORDING the file to append to, POWER_MARKS a
   file whose writes are recorded as marks. One lock around each call and its record keeps the order true. */

#define _GNU_SOURCE
#include <dlfcn.h>
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
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, SYNC, TRUNCATE, RENAME, UNLINK, LINK, SYNC_FOLDER, MARK, UNSUPPORTED };
enum { DURABLE = 1 };

struct record {
    uint32_t kind, flags;
    uint64_t inode;
    int64_t offset;
    uint32_t first, second;
    uint64_t bytes;
};

static char folder[PATH_MAX], marks[PATH_MAX];
static int recording = -1;
static pid_t owner;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("POWER_FOLDER"), *to = getenv("POWER_RECORDING"), *of = getenv("POWER_MARKS");
    if (!where || !to || !of || !realpath(where, folder)) return;
    snprintf(marks, sizeof marks, "%s", of);
    recording = REAL(open)(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    owner = getpid();
}

static void put(const void *bytes, size_t size) {
    __typeof__(&write) real = REAL(write);
    while (size) {
        ssize_t done = real(recording, bytes, size);
        if (done < 0) { if (errno == EINTR) continue; abort(); }
        bytes = (const char *)bytes + done;
        size -= done;
    }
}

static void record(uint32_t kind, uint32_t flags, uint64_t inode, int64_t offset, const char *first, const char *second,
                   const struct iovec *parts, int count, size_t bytes) {
    int kept = errno;
    struct record header = {kind, flags, inode, offset, first ? strlen(first) : 0, second ? strlen(second) : 0, bytes};
    put(&header, sizeof header);
    put(first, header.first);
    put(second, header.second);
    for (int i = 0; i < count && bytes; i++) {
        size_t size = parts[i].iov_len < bytes ? parts[i].iov_len : bytes;
        put(parts[i].iov_base, size);
        bytes -= size;
    }
    errno = kept;
}

/* The name inside the folder, "" for the folder itself, NULL for what is elsewhere. */
static const char *inside(const char *path) {
    size_t size = strlen(folder);
    if (!size || strncmp(path, folder, size)) return NULL;
    return path[size] == '/' ? path + size + 1 : path[size] ? NULL : path + size;
}

static int active(void) { return recording >= 0 && getpid() == owner; }

static const char *of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return NULL;
    path[size] = 0;
    return path;
}

static const char *of_name(int at, const char *name, char *path) {
    char parent[PATH_MAX], whole[PATH_MAX];
    if (name[0] == '/') snprintf(whole, sizeof whole, "%s", name);
    else {
        char base[PATH_MAX];
        if (at == AT_FDCWD) { if (!getcwd(base, sizeof base)) return NULL; }
        else if (!of_descriptor(at, base)) return NULL;
        if (snprintf(whole, sizeof whole, "%s/%s", base, name) >= (int)sizeof whole) return NULL;
    }
    char *last = strrchr(whole, '/');
    *last = 0;
    if (!realpath(*whole ? whole : "/", parent)) return NULL;
    if (snprintf(path, PATH_MAX, "%s/%s", parent, last + 1) >= PATH_MAX) return NULL;
    return inside(path);
}

static uint64_t inode_of(int descriptor) {
    struct stat found;
    return fstat(descriptor, &found) ? 0 : found.st_ino;
}

/* --- names --------------------------------------------------------------------------------------------------------- */

static int open_any(int at, const char *name, int flags, mode_t mode) {
    __typeof__(&openat) real = REAL(openat);
    char path[PATH_MAX];
    const char *ours = active() && (flags & (O_CREAT | O_TRUNC)) ? of_name(at, name, path) : NULL;
    if (!ours) return real(at, name, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat before;
    int existed = !lstat(path, &before);
    int descriptor = real(at, name, flags, mode);
    if (descriptor >= 0 && !existed) record(CREATE, 0, inode_of(descriptor), 0, ours, NULL, NULL, 0, 0);
    else if (descriptor >= 0 && flags & O_TRUNC && before.st_size)
        record(TRUNCATE, 0, before.st_ino, 0, NULL, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return descriptor;
}

#define MODE(last) mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *name, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return open_any(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE(flags) return open_any(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE(flags) return open_any(at, name, flags, mode); }
int creat(const char *name, mode_t mode) { return open_any(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static int two_names(uint32_t kind, int done, const char *from, const char *to) {
    if (!done) {
        if (from && to) record(kind, 0, 0, 0, from, to, NULL, 0, 0);
        else record(UNSUPPORTED, 0, 0, 0, "a name moved across the folder's edge", NULL, NULL, 0, 0);
    }
    return done;
}

#define NAMES(call, kind, from_at, from, to_at, to) \
    char first[PATH_MAX], second[PATH_MAX]; \
    const char *ours = active() ? of_name(from_at, from, first) : NULL, *theirs = active() ? of_name(to_at, to, second) : NULL; \
    if (!ours && !theirs) return call; \
    pthread_mutex_lock(&lock); \
    int done = two_names(kind, call, ours, theirs); \
    pthread_mutex_unlock(&lock); \
    return done;

int rename(const char *from, const char *to) { NAMES(REAL(rename)(from, to), RENAME, AT_FDCWD, from, AT_FDCWD, to) }
int renameat(int a, const char *from, int b, const char *to) { NAMES(REAL(renameat)(a, from, b, to), RENAME, a, from, b, to) }
int renameat2(int a, const char *from, int b, const char *to, unsigned f) { NAMES(REAL(renameat2)(a, from, b, to, f), f ? UNSUPPORTED : RENAME, a, from, b, to) }
int link(const char *from, const char *to) { NAMES(REAL(link)(from, to), LINK, AT_FDCWD, from, AT_FDCWD, to) }
int linkat(int a, const char *from, int b, const char *to, int f) { NAMES(REAL(linkat)(a, from, b, to, f), LINK, a, from, b, to) }

#define NAME(call, kind, at, name) \
    char path[PATH_MAX]; \
    const char *ours = active() ? of_name(at, name, path) : NULL; \
    if (!ours) return call; \
    pthread_mutex_lock(&lock); \
    int done = call; \
    if (!done) record(kind, 0, 0, 0, ours, NULL, NULL, 0, 0); \
    pthread_mutex_unlock(&lock); \
    return done;

int unlink(const char *name) { NAME(REAL(unlink)(name), UNLINK, AT_FDCWD, name) }
int unlinkat(int at, const char *name, int flags) {
    if (flags & AT_REMOVEDIR) return REAL(unlinkat)(at, name, flags);
    NAME(REAL(unlinkat)(at, name, flags), UNLINK, at, name)
}
int remove(const char *name) { NAME(REAL(remove)(name), UNLINK, AT_FDCWD, name) }

/* --- data ---------------------------------------------------------------------------------------------------------- */

/* The name of a descriptor's file if it is to be recorded: in the folder, or the file of marks. */
static const char *watched(int descriptor, char *path) {
    if (!active() || descriptor == recording || !of_descriptor(descriptor, path)) return NULL;
    return inside(path) || !strcmp(path, marks) ? path : NULL;
}

static void wrote(int descriptor, const char *path, const struct iovec *parts, int count, ssize_t done, int64_t offset, int flags) {
    if (done <= 0) return;
    if (!strcmp(path, marks)) record(MARK, 0, 0, 0, NULL, NULL, parts, count, done);
    else {
        int sync = flags & (RWF_DSYNC | RWF_SYNC) || fcntl(descriptor, F_GETFL) & (O_DSYNC | O_SYNC);
        record(WRITE, sync ? DURABLE : 0, inode_of(descriptor), offset, NULL, NULL, parts, count, done);
    }
}

static int64_t position(int descriptor) {
    struct stat found;
    if (fcntl(descriptor, F_GETFL) & O_APPEND) return fstat(descriptor, &found) ? 0 : found.st_size;
    return lseek(descriptor, 0, SEEK_CUR);
}

#define WRITING(call, parts, count, at, flags) \
    char path[PATH_MAX]; \
    if (!watched(descriptor, path)) return call; \
    pthread_mutex_lock(&lock); \
    int64_t where = at; \
    ssize_t done = call; \
    wrote(descriptor, path, parts, count, done, where, flags); \
    pthread_mutex_unlock(&lock); \
    return done;

ssize_t write(int descriptor, const void *bytes, size_t size) {
    struct iovec part = {(void *)bytes, size};
    WRITING(REAL(write)(descriptor, bytes, size), &part, 1, position(descriptor), 0)
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) { WRITING(REAL(writev)(descriptor, parts, count), parts, count, position(descriptor), 0) }
ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t offset) {
    struct iovec part = {(void *)bytes, size};
    WRITING(REAL(pwrite)(descriptor, bytes, size, offset), &part, 1, offset, 0)
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t offset) {
    struct iovec part = {(void *)bytes, size};
    WRITING(REAL(pwrite64)(descriptor, bytes, size, offset), &part, 1, offset, 0)
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) { WRITING(REAL(pwritev)(descriptor, parts, count, offset), parts, count, offset, 0) }
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset) { WRITING(REAL(pwritev64)(descriptor, parts, count, offset), parts, count, offset, 0) }
ssize_t pwritev2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) { WRITING(REAL(pwritev2)(descriptor, parts, count, offset, flags), parts, count, offset, flags) }
ssize_t pwritev64v2(int descriptor, const struct iovec *parts, int count, off64_t offset, int flags) { WRITING(REAL(pwritev64v2)(descriptor, parts, count, offset, flags), parts, count, offset, flags) }

/* What the kernel copies by itself is done with buffers instead, so that it is seen. */
ssize_t sendfile(int descriptor, int from, off_t *offset, size_t size) {
    char path[PATH_MAX], buffer[1 << 16];
    if (!watched(descriptor, path)) return REAL(sendfile)(descriptor, from, offset, size);
    if (size > sizeof buffer) size = sizeof buffer;
    ssize_t done = offset ? pread(from, buffer, size, *offset) : read(from, buffer, size);
    if (done <= 0) return done;
    if (offset) *offset += done;
    return write(descriptor, buffer, done);
}
ssize_t sendfile64(int descriptor, int from, off64_t *offset, size_t size) { return sendfile(descriptor, from, offset, size); }
ssize_t copy_file_range(int from, off64_t *a, int descriptor, off64_t *b, size_t size, unsigned flags) {
    char path[PATH_MAX];
    if (watched(descriptor, path)) { errno = ENOSYS; return -1; }
    return REAL(copy_file_range)(from, a, descriptor, b, size, flags);
}

#define SYNCING(call) \
    char path[PATH_MAX]; \
    if (!watched(descriptor, path)) return call; \
    pthread_mutex_lock(&lock); \
    struct stat found; \
    int done = call; \
    if (!done && !fstat(descriptor, &found)) { \
        if (S_ISDIR(found.st_mode)) record(SYNC_FOLDER, 0, 0, 0, inside(path), NULL, NULL, 0, 0); \
        else record(SYNC, 0, found.st_ino, 0, NULL, NULL, NULL, 0, 0); \
    } \
    pthread_mutex_unlock(&lock); \
    return done;

int fsync(int descriptor) { SYNCING(REAL(fsync)(descriptor)) }
int fdatasync(int descriptor) { SYNCING(REAL(fdatasync)(descriptor)) }
int syncfs(int descriptor) { SYNCING(REAL(syncfs)(descriptor)) }

#define CUTTING(call, descriptor_of, size) \
    char path[PATH_MAX]; \
    if (!watched(descriptor_of, path)) return call; \
    pthread_mutex_lock(&lock); \
    int done = call; \
    if (!done) record(TRUNCATE, 0, inode_of(descriptor_of), size, NULL, NULL, NULL, 0, 0); \
    pthread_mutex_unlock(&lock); \
    return done;

int ftruncate(int descriptor, off_t size) { CUTTING(REAL(ftruncate)(descriptor, size), descriptor, size) }
int ftruncate64(int descriptor, off64_t size) { CUTTING(REAL(ftruncate64)(descriptor, size), descriptor, size) }
static int truncate_any(const char *name, off64_t size) {
    int descriptor = REAL(open)(name, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    int done = ftruncate64(descriptor, size);
    close(descriptor);
    return done;
}
int truncate(const char *name, off_t size) { return active() ? truncate_any(name, size) : REAL(truncate)(name, size); }
int truncate64(const char *name, off64_t size) { return active() ? truncate_any(name, size) : REAL(truncate64)(name, size); }

/* What nobody uses today is not modelled: it is named, and the replay refuses the recording. */
#define REFUSING(call, what) \
    char path[PATH_MAX]; \
    if (watched(descriptor, path)) { pthread_mutex_lock(&lock); record(UNSUPPORTED, 0, 0, 0, what, NULL, NULL, 0, 0); pthread_mutex_unlock(&lock); } \
    return call;

int fallocate(int descriptor, int mode, off_t offset, off_t size) { REFUSING(REAL(fallocate)(descriptor, mode, offset, size), "fallocate") }
int fallocate64(int descriptor, int mode, off64_t offset, off64_t size) { REFUSING(REAL(fallocate64)(descriptor, mode, offset, size), "fallocate") }
int posix_fallocate(int descriptor, off_t offset, off_t size) { REFUSING(REAL(posix_fallocate)(descriptor, offset, size), "posix_fallocate") }
int posix_fallocate64(int descriptor, off64_t offset, off64_t size) { REFUSING(REAL(posix_fallocate64)(descriptor, offset, size), "posix_fallocate") }
void *mmap(void *at, size_t size, int protection, int flags, int descriptor, off_t offset) {
    if (descriptor < 0 || !(flags & MAP_SHARED) || !(protection & PROT_WRITE)) return REAL(mmap)(at, size, protection, flags, descriptor, offset);
    REFUSING(REAL(mmap)(at, size, protection, flags, descriptor, offset), "mmap")
}
