/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors and DDUF: opens the input as either; what is taken must lie inside the file, and be
 * shown. */
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/model/dduf.h"
#include "worker/model/facts.h"
#include "worker/model/safetensors.h"
#include "worker/model/weights_show.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_safetensors(int fd, size_t size)
{
    struct safetensors *s;
    struct err err = ERR_INIT;
    uint64_t sum = 0;
    if (safetensors_open(fd, 0, size, &s, &err) < 0) {
        BUG_ON(!err.msg[0]);
        return;
    }
    for (uint32_t i = 0; i < safetensors_n_tensors(s); i++) {
        const struct safetensors_tensor *t = safetensors_tensor_at(s, i);
        BUG_ON(t->offset > size || t->n_bytes > size - t->offset);
        BUG_ON(safetensors_find(s, t->name) != t);
        sum += t->n_bytes;
    }
    BUG_ON(sum > size);
    safetensors_close(s);
}

static void check_dduf(int fd, size_t size)
{
    struct dduf *d;
    struct err err = ERR_INIT;
    if (dduf_open(fd, size, &d, &err) < 0) {
        BUG_ON(!err.msg[0]);
        return;
    }
    for (uint32_t i = 0; i < dduf_n_entries(d); i++) {
        const struct dduf_entry *e = dduf_entry_at(d, i);
        BUG_ON(e->offset > size || e->n_bytes > size - e->offset);
    }
    dduf_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct err err = ERR_INIT;
    struct buf out;
    if (size == 0)
        return 0;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    size_t n = size - 1;
    if (fd < 0 || ftruncate(fd, (off_t)n) < 0 || pwrite(fd, data + 1, n, 0) != (ssize_t)n)
        return 0;
    const char *name = data[0] & 1 ? "fuzz.dduf" : "fuzz.safetensors";
    const struct facts_file file = {fd, name};
    if (data[0] & 1)
        check_dduf(fd, n);
    else
        check_safetensors(fd, n);
    buf_init(&out, LIMIT_FACTS_BYTES);
    int rc =
        data[0] & 2 ? facts_read(&file, 1, &out, &err) : weights_show_json(fd, name, &out, &err);
    BUG_ON(rc < 0 && !err.msg[0]);
    buf_release(&out);
    return 0;
}
