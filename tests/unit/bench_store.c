/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the store is verified, as a share of what `openssl speed -evp sha256` does on this
 * machine, and how much memory that takes; make bench ONLY=store.  Both count the processor's time,
 * as `openssl speed` does by itself.  A store of 1 GiB in BUILD, in the page cache. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "daemon/store/store.h"
#include "lib/base/mem.h"

#define BLOB_BYTES (1ull << 30)
#define PIECE      (1u << 20)

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Bytes a second of the largest pieces, by openssl's own account; 0: it could not be asked. */
static double openssl_rate(void)
{
    char line[256];
    double rate = 0;
    FILE *f = popen("openssl speed -mr -seconds 2 -bytes 16384 -evp sha256 2>/dev/null", "r");
    while (f && fgets(line, sizeof(line), f)) {
        char *colon = strrchr(line, ':'); /* +F:22:sha256:2266955776.00 */
        if (strncmp(line, "+F:", 3) == 0 && colon)
            rate = atof(colon + 1);
    }
    if (f)
        pclose(f);
    return rate;
}

static bool on_finding(void *ctx, const struct store_finding *f)
{
    (void)ctx;
    (void)f;
    return true;
}

static void fail(const struct err *err)
{
    fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

int main(void)
{
    char dir[512];
    const char *build = getenv("BUILD");
    struct store *s = NULL;
    struct store_writer *w;
    struct err err = ERR_INIT;
    uint64_t offset, n_found = 0;
    struct rusage use;
    snprintf(dir, sizeof(dir), "%s/bench-store.XXXXXX", build ? build : "build");
    if (!mkdtemp(dir) || store_open(dir, &s, &err) < 0)
        fail(&err);
    char *piece = mem_alloc(PIECE);
    for (size_t i = 0; i < PIECE; i++)
        piece[i] = (char)(i * 2654435761u >> 13);
    double t = now_s();
    if (store_write_begin(s, NULL, BLOB_BYTES, &w, &offset, &err) < 0)
        fail(&err);
    for (uint64_t at = 0; at < BLOB_BYTES; at += PIECE) {
        memcpy(piece, &at, sizeof(at));
        if (store_write(w, piece, PIECE, &err) < 0)
            fail(&err);
    }
    if (store_write_commit(w, NULL, &err) < 0)
        fail(&err);
    double written = (double)BLOB_BYTES / (now_s() - t);
    mem_free(piece);
    double best = 0, openssl = 0;
    for (int i = 0; i < 3; i++) { /* by turns, so that both see the same machine */
        t = now_s();
        if (store_verify(s, false, on_finding, NULL, &n_found, &err) < 0)
            fail(&err);
        double rate = (double)BLOB_BYTES / (now_s() - t);
        best = rate > best ? rate : best;
        rate = openssl_rate();
        openssl = rate > openssl ? rate : openssl;
    }
    getrusage(RUSAGE_SELF, &use);
    printf("store: verify %.0f MB/s, openssl sha256 %.0f MB/s, ratio %.2f (0.80 is asked); "
           "written and hashed at %.0f MB/s; at most %ld MB of memory\n",
           best / 1e6, openssl / 1e6, openssl > 0 ? best / openssl : 0, written / 1e6,
           use.ru_maxrss / 1024);
    store_close(s);
    return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) || n_found ? 1 : 0;
}
