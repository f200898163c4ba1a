/* SPDX-License-Identifier: Apache-2.0 */
/* `berth pull` and `berth push`: models from and to registries, by the daemon. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/lock/lock.h"
#include "lib/base/limits.h"
#include "cli/artifact/artifact.h"

static enum transfer_style style_of(const struct cli_args *a)
{
    if (cli_has(a, "json"))
        return TRANSFER_JSON;
    return cli_has(a, "quiet") ? TRANSFER_QUIET : TRANSFER_BERTH;
}

/* The last word on standard output. */
static void print_done(const struct cli_args *a, const struct transfer *t, const char *ref,
                       const char *done)
{
    char sum[96];
    const char *name = t->name ? t->name : ref;
    if (t->style == TRANSFER_JSON)
        return;
    if (cli_has(a, "quiet"))
        printf("%s\n", t->id);
    else if (t->was_cached)
        printf("%s is up to date\n%s\n", name, t->id);
    else
        printf("%s %s (%s)\n%s\n", done, name, transfer_sum(t, sum), t->id);
}

typedef int (*transfer_fn)(struct client *c, const char *ref, enum transfer_style style,
                           struct transfer *t, struct err *err);

/* The reference to fetch: with --locked by the digest that the lock has. */
static int reference_of(const struct cli_args *a, const struct client *c, const char *model,
                        struct buf *out, struct err *err)
{
    buf_clear(out);
    if (cli_has(a, "locked"))
        return lock_demand(c, LOCK_FILE, model, false, out, err);
    buf_append_str(out, model);
    return buf_status(out, "the model's name", err);
}

static int each(const struct cli_args *a, const char *verb, const char *done, transfer_fn fn)
{
    struct err err = ERR_INIT;
    struct client c;
    struct buf ref;
    int rc = artifact_client(a, &c, &err);
    buf_init(&ref, LIMIT_PATH_BYTES);
    for (unsigned i = 0; rc == 0 && i < a->n_operands; i++) {
        struct transfer t = {.id = ""};
        const char *model = a->operands[i];
        rc = reference_of(a, &c, model, &ref, &err);
        if (rc == 0)
            rc = fn(&c, buf_str(&ref), style_of(a), &t, &err);
        if (rc == 0)
            print_done(a, &t, model, done);
        transfer_release(&t);
        if (rc == -E_CANCELED)
            artifact_interrupted("berth", verb, model);
    }
    buf_release(&ref);
    return rc == -E_CANCELED ? CLI_INTERRUPTED : rc < 0 ? cli_fail(&err) : CLI_OK;
}

int cmd_pull(const struct cli_args *a)
{
    return each(a, "pull", "pulled", artifact_pull);
}

int cmd_push(const struct cli_args *a)
{
    return each(a, "push", "pushed", artifact_push);
}
