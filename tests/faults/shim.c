/* Loaded before libc into a host under test: writes and flushes of its store fail, or its clock jumps, as the page of
 * memory shared with the driver says. Without orders everything passes through untouched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Counts say how many of the next calls are hit: 0 none, -1 all. The layout is that of shim.py. */
struct orders {
    int32_t failing_writes;  /* nothing is written */
    int32_t torn_writes;     /* half of it is written, then the call fails */
    int32_t late_writes;     /* all of it is written, and the call fails */
    int32_t short_writes;    /* half of it is written, and the call says so */
    int32_t failing_flushes; /* fsync and fdatasync fail, and writes that flush, once written */
    int32_t error;
    int32_t hits;
    int32_t unused;
    int64_t clock_offset; /* microseconds added to the wall clock */
};

static struct orders *orders;
static const char *store;
static size_t store_length;

__attribute__((constructor)) static void begin(void) {
    const char *control = getenv("FAULTS_CONTROL");
    store = getenv("FAULTS_STORE");
    if (control == NULL || store == NULL) return;
    store_length = strlen(store);
    int file = open(control, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) orders = page;
}

static int of_store(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length >= (ssize_t)store_length && strncmp(path, store, store_length) == 0;
}

static int hit(int32_t *count, int file) {
    if (orders == NULL || __atomic_load_n(count, __ATOMIC_SEQ_CST) == 0 || !of_store(file)) return 0;
    int32_t left = __atomic_load_n(count, __ATOMIC_SEQ_CST);
    while (left > 0 && !__atomic_compare_exchange_n(count, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
    if (left == 0) return 0;
    __atomic_add_fetch(&orders->hits, 1, __ATOMIC_SEQ_CST);
    return 1;
}

static int failed(void) {
    errno = orders->error;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A write of `size` bytes: WHOLE(n) writes the first n of them. */
#define WRITTEN(file, size, flushes, WHOLE)                                          \
    do {                                                                             \
        if (orders == NULL) return WHOLE(size);                                      \
        if (hit(&orders->failing_writes, file)) return failed();                     \
        if ((size) > 1 && hit(&orders->torn_writes, file)) {                         \
            WHOLE((size) / 2);                                                       \
            return failed();                                                         \
        }                                                                            \
        if (hit(&orders->late_writes, file)) {                                       \
            WHOLE(size);                                                             \
            return failed();                                                         \
        }                                                                            \
        if ((size) > 1 && hit(&orders->short_writes, file)) return WHOLE((size) / 2); \
        if ((flushes) && hit(&orders->failing_flushes, file)) {                      \
            WHOLE(size);                                                             \
            return failed();                                                         \
        }                                                                            \
        return WHOLE(size);                                                          \
    } while (0)

ssize_t write(int file, const void *bytes, size_t size) {
#define WHOLE(n) REAL(write)(file, bytes, n)
    WRITTEN(file, size, 0, WHOLE);
#undef WHOLE
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) {
#define WHOLE(n) REAL(pwrite)(file, bytes, n, at)
    WRITTEN(file, size, 0, WHOLE);
#undef WHOLE
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) { return pwrite(file, bytes, size, at); }

static size_t size_of(const struct iovec *parts, int count) {
    size_t size = 0;
    for (int part = 0; part < count; part++) size += parts[part].iov_len;
    return size;
}

/* The first `size` bytes of the parts, gathered and written by one call, flushed where `flags` say so. */
static ssize_t gathered(int file, const struct iovec *parts, int count, size_t size, off_t at, int flags) {
    if (size == size_of(parts, count)) return REAL(pwritev2)(file, parts, count, at, flags);
    char *bytes = malloc(size + 1);
    if (bytes == NULL) return -1;
    size_t taken = 0;
    for (int part = 0; part < count && taken < size; part++) {
        size_t piece = parts[part].iov_len < size - taken ? parts[part].iov_len : size - taken;
        memcpy(bytes + taken, parts[part].iov_base, piece);
        taken += piece;
    }
    struct iovec one = {bytes, size};
    ssize_t written = REAL(pwritev2)(file, &one, 1, at, flags);
    free(bytes);
    return written;
}

ssize_t pwritev2(int file, const struct iovec *parts, int count, off_t at, int flags) {
    size_t size = size_of(parts, count);
#define WHOLE(n) gathered(file, parts, count, n, at, flags)
    WRITTEN(file, size, flags & (RWF_DSYNC | RWF_SYNC), WHOLE);
#undef WHOLE
}

ssize_t pwritev64v2(int file, const struct iovec *parts, int count, off64_t at, int flags) {
    return pwritev2(file, parts, count, at, flags);
}
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) { return pwritev2(file, parts, count, at, 0); }
ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t at) {
    return pwritev2(file, parts, count, at, 0);
}
ssize_t writev(int file, const struct iovec *parts, int count) { return pwritev2(file, parts, count, -1, 0); }

int fsync(int file) { return orders != NULL && hit(&orders->failing_flushes, file) ? failed() : REAL(fsync)(file); }
int fdatasync(int file) {
    return orders != NULL && hit(&orders->failing_flushes, file) ? failed() : REAL(fdatasync)(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) real = REAL(clock_gettime);
    int outcome = real(clock, now);
    if (outcome == 0 && orders != NULL && orders->clock_offset != 0 &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t moved = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + orders->clock_offset * 1000;
        now->tv_sec = moved / 1000000000;
        now->tv_nsec = moved % 1000000000;
    }
    return outcome;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now != NULL) *now = exact.tv_sec;
    return exact.tv_sec;
}
