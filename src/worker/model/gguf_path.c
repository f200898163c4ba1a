/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF by path, for tests and tools: whoever serves a model opens its files outside the sandbox
 * (lib/sys/model_files) and calls gguf_open inside it.  Any thread. */
#include "lib/sys/model_files.h"
#include "worker/model/gguf_int.h"

int gguf_open_path(const char *path, unsigned flags, struct gguf **ret_gguf, struct err *err)
{
    struct model_files f;
    int rc = model_files_open(path, &f, err);
    if (rc < 0)
        return rc;
    rc = gguf_open(f.fds, (const char *const *)f.paths, f.n, flags, ret_gguf, err);
    model_files_close(&f);
    return rc;
}
