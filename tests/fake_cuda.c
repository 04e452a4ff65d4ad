/* A driver of CUDA and a cuBLAS that compute on the host: what `tlang.run` asks of them is checked where
   there is no GPU. Memory of the device is that of the host, and every call is done at once. Of kernels it
   knows one by name, `axpy(n, x, y)`: it adds f32 x to y, as numba passes the parameters. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NO_CONTEXT = 201, NOT_FOUND = 500 };

/* What tests read: memory in use, calls of kernels, the last grid and block. */
int64_t fake_used, fake_launches, fake_shape[6];
static int entered;

static int number(const char *name, int usual) {
    const char *said = getenv(name);
    return said ? atoi(said) : usual;
}

int cuInit(unsigned flags) { return number("FAKE_INIT", flags ? INVALID : OK); }
int cuDriverGetVersion(int *out) { return *out = number("FAKE_VERSION", 13000), OK; }
int cuDeviceGetCount(int *out) { return *out = number("FAKE_DEVICES", 1), OK; }
int cuDeviceGet(int *out, int i) { return *out = i, i ? INVALID : OK; }
int cuGetErrorName(int status, const char **out) {
    *out = status == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_THE_FAKE";
    return OK;
}
int cuDeviceGetName(char *out, int size, int device) { return strncpy(out, "Fake", size), device; }
int cuDeviceGetAttribute(int *out, int which, int device) {
    *out = which == 75 ? number("FAKE_MAJOR", 9) : which == 16 ? 132 : which == 115 ? number("FAKE_POOLS", 1) : 0;
    return device;
}
int cuDeviceTotalMem_v2(size_t *out, int device) { return *out = 1u << 30, device; }
int cuDeviceGetDefaultMemPool(void **out, int device) { return *out = (void *)7, device; }
int cuMemPoolSetAttribute(void *pool, int which, uint64_t *value) {
    return pool == (void *)7 && which == 4 && *value == UINT64_MAX ? OK : INVALID;
}
int cuDevicePrimaryCtxRetain(void **out, int device) { return *out = (void *)11, device; }
int cuCtxSetCurrent(void *context) { return entered = context == (void *)11, OK; }

/* Streams are 100 and 101, in the order in which they are made. */
static int64_t streams = 100;
static int is_stream(void *s) { return (int64_t)s >= 100 && (int64_t)s < streams; }
int cuStreamCreate(void **out, unsigned flags) { return *out = (void *)streams++, flags; }
int cuStreamSynchronize(void *s) { return is_stream(s) ? OK : INVALID; }
int cuEventCreate(void **out, unsigned flags) { return *out = (void *)13, flags == 2 ? OK : INVALID; }
int cuEventRecord(void *event, void *s) { return event == (void *)13 && is_stream(s) ? OK : INVALID; }
int cuEventSynchronize(void *event) { return event == (void *)13 ? OK : INVALID; }
int cuStreamWaitEvent(void *s, void *event, unsigned flags) {
    return is_stream(s) && event == (void *)13 ? (int)flags : INVALID;
}

int cuMemAlloc_v2(void **out, size_t size) {
    if (!entered) return NO_CONTEXT;
    if (size > 1u << 30) return OUT_OF_MEMORY;
    int64_t *place = aligned_alloc(256, 256 + (size + 255) / 256 * 256);
    place[0] = size, fake_used += size;
    return *out = (char *)place + 256, OK;
}
int cuMemFree_v2(void *address) {
    int64_t *place = (int64_t *)((char *)address - 256);
    fake_used -= place[0];
    return free(place), OK;
}
int cuMemAllocAsync(void **out, size_t size, void *s) { return is_stream(s) ? cuMemAlloc_v2(out, size) : INVALID; }
int cuMemFreeAsync(void *address, void *s) { return is_stream(s) ? cuMemFree_v2(address) : INVALID; }
int cuMemHostAlloc(void **out, size_t size, unsigned flags) { return *out = malloc(size), flags; }

/* What is recorded for a graph: kernels with their parameters, copies, and bytes that are set. */
typedef struct { int kind; void *a, *b; size_t size; int64_t words[15]; } Work;
static Work recorded[64];
static int count, recording;

static int done(Work *w) {
    if (w->kind == 0) return memcpy(w->a, w->b, w->size), OK;
    if (w->kind == 2) return memset(w->a, (int)w->words[0], w->size), OK;
    int64_t n = w->words[0], *x = w->words + 1, *y = w->words + 8;
    fake_launches++;
    for (int i = 0; i < 2; i++) {
        int64_t *p = i ? y : x;
        if (p[0] || p[1] || p[2] != p[5] || p[3] != 4 || p[6] != 4 || p[2] < n) return INVALID;
    }
    for (int64_t i = 0; i < n; i++) ((float *)y[4])[i] += ((float *)x[4])[i];
    return OK;
}
static int work(void *s, Work w) {
    if (!is_stream(s) || !entered) return INVALID;
    if (!recording) return done(&w);
    return recorded[count++] = w, OK;
}
int cuMemcpyHtoDAsync_v2(void *to, void *from, size_t size, void *s) { return work(s, (Work){0, to, from, size}); }
int cuMemcpyDtoHAsync_v2(void *to, void *from, size_t size, void *s) { return work(s, (Work){0, to, from, size}); }
int cuMemcpyDtoDAsync_v2(void *to, void *from, size_t size, void *s) { return work(s, (Work){0, to, from, size}); }
int cuMemsetD8Async(void *to, unsigned char byte, size_t size, void *s) {
    return work(s, (Work){2, to, 0, size, {byte}});
}

int cuModuleLoadData(void **out, const char *image) { return *out = (void *)17, memcmp(image, "\x7f" "ELF", 4) ? INVALID : OK; }
int cuModuleGetFunction(void **out, void *module, const char *name) {
    *out = (void *)19;
    return module == (void *)17 && !strcmp(name, "axpy") ? OK : NOT_FOUND;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *s, int64_t **words, void **extra) {
    int64_t shape[6] = {gx, gy, gz, bx, by, bz};
    Work w = {1};
    memcpy(fake_shape, shape, sizeof shape);
    if (function != (void *)19 || shared || extra || !gx || !gy || !gz || !bx || !by || !bz) return INVALID;
    for (int i = 0; i < 15; i++) w.words[i] = *words[i];
    return work(s, w);
}
int cuStreamBeginCapture_v2(void *s, int mode) { return count = 0, recording = 1, is_stream(s) && mode == 1 ? OK : INVALID; }
int cuStreamEndCapture(void *s, void **out) { return recording = 0, *out = (void *)23, is_stream(s) ? OK : INVALID; }
int cuGraphInstantiateWithFlags(void **out, void *graph, unsigned long long flags) {
    return *out = (void *)29, graph == (void *)23 ? (int)flags : INVALID;
}
int cuGraphLaunch(void *graph, void *s) {
    int status = graph == (void *)29 && is_stream(s) ? OK : INVALID;
    for (int i = 0; i < count && !status; i++) status = done(&recorded[i]);
    return status;
}
int cuGraphDestroy(void *graph) { return graph == (void *)23 ? OK : INVALID; }
int cuGraphExecDestroy(void *graph) { return graph == (void *)29 ? OK : INVALID; }

/* cuBLAS: matrices are stored by columns. */
int64_t fake_products;
static int settings;

int cublasCreate_v2(void **out) { return *out = (void *)31, OK; }
int cublasSetStream_v2(void *h, void *s) { return settings = 1, h == (void *)31 && s == (void *)100 ? OK : INVALID; }
int cublasSetWorkspace_v2(void *h, void *place, size_t size) {
    memset(place, 0, size);
    return settings |= 2, h == (void *)31 ? OK : INVALID;
}
int cublasSetMathMode(void *h, int mode) { return settings |= 4, h == (void *)31 && mode == 0 ? OK : INVALID; }

#define PRODUCTS(L, F)                                                                                              \
    int cublas##L##gemmStridedBatched_64(void *h, int ta, int tb, int64_t m, int64_t n, int64_t k, F *one, F *a,    \
                                         int64_t lda, int64_t sa, F *b, int64_t ldb, int64_t sb, F *zero, F *c,     \
                                         int64_t ldc, int64_t sc, int64_t batch) {                                  \
        if (h != (void *)31 || settings != 7 || *one != 1 || *zero != 0) return INVALID;                            \
        if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return INVALID;                                    \
        fake_products++;                                                                                            \
        for (int64_t z = 0; z < batch; z++, a += sa, b += sb, c += sc)                                              \
            for (int64_t i = 0; i < m; i++)                                                                         \
                for (int64_t j = 0; j < n; j++) {                                                                   \
                    F sum = 0;                                                                                      \
                    for (int64_t l = 0; l < k; l++)                                                                 \
                        sum += (ta ? a[l + i * lda] : a[i + l * lda]) * (tb ? b[j + l * ldb] : b[l + j * ldb]);     \
                    c[i + j * ldc] = sum;                                                                           \
                }                                                                                                   \
        return OK;                                                                                                  \
    }                                                                                                               \
    int cublas##L##gemm_v2_64(void *h, int ta, int tb, int64_t m, int64_t n, int64_t k, F *one, F *a, int64_t lda,  \
                              F *b, int64_t ldb, F *zero, F *c, int64_t ldc) {                                      \
        return cublas##L##gemmStridedBatched_64(h, ta, tb, m, n, k, one, a, lda, 0, b, ldb, 0, zero, c, ldc, 0, 1); \
    }                                                                                                               \
    int cublas##L##gemv_v2_64(void *h, int t, int64_t m, int64_t n, F *one, F *a, int64_t lda, F *x, int64_t dx,    \
                              F *zero, F *y, int64_t dy) {                                                          \
        if (h != (void *)31 || settings != 7 || *one != 1 || *zero != 0 || lda < m || !dx || !dy) return INVALID;   \
        fake_products++;                                                                                            \
        for (int64_t i = 0; i < (t ? n : m); i++) {                                                                 \
            F sum = 0;                                                                                              \
            for (int64_t l = 0; l < (t ? m : n); l++) sum += (t ? a[l + i * lda] : a[i + l * lda]) * x[l * dx];     \
            y[i * dy] = sum;                                                                                        \
        }                                                                                                           \
        return OK;                                                                                                  \
    }

PRODUCTS(S, float)
PRODUCTS(D, double)
