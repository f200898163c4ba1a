/* SPDX-License-Identifier: Apache-2.0 */
/* Implements model_path.h. */
#include "cli/model_path.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "lib/base/near.h"
#include "lib/base/str.h"

#define NEAR_MAX 256 /* names looked at for a suggestion */

bool model_is_path(const char *model)
{
    if (strchr("/.~", model[0]) || str_has_suffix(str_from(model), STR_LIT(".gguf")))
        return true;
    return strchr(model, '/') && access(model, F_OK) == 0;
}

int model_real_path(const char *path, struct buf *out, struct err *err)
{
    char real[LIMIT_PATH_BYTES];
    if (!realpath(path, real))
        return err_set_sys(err, errno == ENOENT ? E_NOTFOUND : E_IO,
                           "opening the model file %.256s", path);
    buf_append_str(out, real);
    return buf_status(out, "the model's path", err);
}

/* Appends the models of one folder to names (owned by the caller). */
static size_t folder_names(const char *dir, char **names, size_t n)
{
    DIR *d = opendir(dir);
    const struct dirent *e;
    while (d && n < NEAR_MAX && (e = readdir(d))) {
        struct str name = str_from(e->d_name);
        if (str_has_suffix(name, STR_LIT(".gguf")))
            names[n++] = mem_dup(name.p, name.len - 5);
    }
    if (d)
        closedir(d);
    return n;
}

int model_find(const char *model, const char *dirs, struct buf *out, struct err *err)
{
    if (model_is_path(model))
        return model_real_path(model, out, err);
    char *names[NEAR_MAX];
    size_t n_names = 0;
    bool is_found = false;
    for (const char *s = dirs; *s && !is_found;) {
        size_t n = strcspn(s, ":");
        if (n) {
            buf_clear(out);
            buf_printf(out, "%.*s", (int)n, s);
            n_names = folder_names(buf_str(out), names, n_names);
            buf_printf(out, "/%s.gguf", model);
            is_found = access(buf_str(out), F_OK) == 0;
        }
        s += n + (s[n] == ':');
    }
    int rc = buf_status(out, "the model's path", err);
    if (rc == 0 && !is_found && access(model, F_OK) == 0) {
        buf_clear(out);
        is_found = true;
        rc = model_real_path(model, out, err);
    }
    if (rc == 0 && !is_found) {
        const char *near = near_name(model, (const char *const *)names, n_names);
        rc = err_set(err, E_NOTFOUND, "there is no model '%.128s' in %.256s%s%.64s%s", model, dirs,
                     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    for (size_t i = 0; i < n_names; i++)
        mem_free(names[i]);
    return rc;
}
