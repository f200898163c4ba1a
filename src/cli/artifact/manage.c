/* SPDX-License-Identifier: Apache-2.0 */
/* `berth tag`, `rm`, `prune` and `verify`: what there is in the daemon's store. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/models.h"
#include "cli/progress.h"
#include "cli/artifact/artifact.h"
#include "cli/table.h"

int cmd_tag(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    if (artifact_client(a, &c, &err) < 0 ||
        artifact_tag(&c, a->operands[0], a->operands[1], &err) < 0)
        return cli_fail(&err);
    if (cli_has(a, "json")) {
        json_t *j = json_pack("{s:s, s:s}", "source", a->operands[0], "target", a->operands[1]);
        cli_print_json(j);
        json_decref(j);
    } else {
        printf("%s is now %s too\n", a->operands[0], a->operands[1]);
    }
    return CLI_OK;
}

/* --- rm --- */

static void print_removed(const json_t *done, size_t from)
{
    for (size_t i = from; i < json_array_size(done); i++) {
        const json_t *e = json_array_get(done, i);
        if (*answer_text(e, "Untagged"))
            printf("untagged %s\n", answer_text(e, "Untagged"));
        if (*answer_text(e, "Deleted"))
            printf("deleted %s\n", answer_text(e, "Deleted"));
    }
}

int cmd_rm(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    int status = CLI_OK;
    if (artifact_client(a, &c, &err) < 0)
        return cli_fail(&err);
    json_t *done = json_array();
    for (unsigned i = 0; i < a->n_operands; i++) {
        struct err why = ERR_INIT;
        size_t from = json_array_size(done);
        if (artifact_remove(&c, a->operands[i], cli_has(a, "force"), done, &why) < 0)
            status = cli_fail(&why);
        else if (!cli_has(a, "json"))
            print_removed(done, from);
    }
    if (cli_has(a, "json"))
        cli_print_json(done);
    json_decref(done);
    return status;
}

/* --- prune --- */

int cmd_prune(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    uint64_t age = 0;
    json_t *answer = NULL;
    const char *older = cli_flag(a, "older-than");
    if (older && config_parse_duration(older, 0, INT32_MAX, &age, &err) < 0) {
        err_wrap(&err, "--older-than");
        cli_fail(&err);
        return CLI_USAGE;
    }
    json_t *body = json_pack("{s:b, s:I}", "untagged", !cli_has(a, "keep-untagged"), "older_than_s",
                             (json_int_t)age);
    int rc = artifact_client(a, &c, &err);
    if (rc == 0)
        rc = client_json(&c, "POST", "/berth/v1/prune", body, &answer, &err);
    if (rc == 0 && cli_has(a, "json")) {
        cli_print_json(answer);
    } else if (rc == 0) {
        char freed[16];
        const json_t *removed = json_object_get(answer, "removed"), *m;
        size_t i;
        json_array_foreach((json_t *)removed, i, m) printf("deleted %s\n", answer_text(m, "id"));
        text_bytes(answer_number(answer, "freed_bytes"), freed);
        printf("%s freed\n", freed);
    }
    json_decref(answer);
    json_decref(body);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

/* --- verify --- */

struct verify {
    bool is_json;
    struct progress progress;
    uint64_t findings, bytes;
    bool repaired, is_whole;
};

static bool on_verify_line(void *ctx, const json_t *line)
{
    struct verify *v = ctx;
    const char *type = answer_text(line, "type");
    if (v->is_json) {
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
    }
    const json_t *finding = json_object_get(line, "finding");
    if (finding) {
        const char *name = answer_text(finding, "name");
        progress_end(&v->progress);
        if (!v->is_json)
            printf("%s%s%s: %s\n", name, *name ? " " : "", answer_text(finding, "digest"),
                   answer_text(finding, "what"));
    } else if (strcmp(type, "progress") == 0) {
        progress_set(&v->progress, NULL, answer_number(line, "done"), answer_number(line, "total"));
        progress_tick(&v->progress);
    } else if (strcmp(type, "success") == 0) {
        v->is_whole = true;
        v->findings = answer_number(line, "findings");
        v->bytes = answer_number(line, "blob_bytes");
        v->repaired = json_is_true(json_object_get(line, "repaired"));
    }
    return !ferror(stdout);
}

static void on_verify_tick(void *ctx)
{
    progress_tick(&((struct verify *)ctx)->progress);
}

int cmd_verify(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct verify v = {.is_json = cli_has(a, "json")};
    json_t *body = json_pack("{s:b}", "repair", cli_has(a, "repair"));
    int rc = artifact_client(a, &c, &err);
    progress_begin(&v.progress, "verifying the store", config_wants_color());
    if (rc == 0) {
        c.on_tick = on_verify_tick;
        c.tick_ctx = &v;
        rc = client_lines(&c, "/berth/v1/verify", body, NULL, on_verify_line, &v, &err);
    }
    progress_end(&v.progress);
    json_decref(body);
    if (rc == 0 && !v.is_whole)
        rc = err_set(&err, E_NET, "the daemon broke verifying off; its log says why");
    if (rc == -E_CANCELED)
        return CLI_INTERRUPTED;
    if (rc < 0)
        return cli_fail(&err);
    char bytes[16];
    text_bytes(v.bytes, bytes);
    if (!v.is_json && v.findings == 0)
        printf("%s verified, nothing wrong\n", bytes);
    else if (!v.is_json)
        printf("%s verified, %llu %s%s\n", bytes, (unsigned long long)v.findings,
               v.findings == 1 ? "thing is wrong" : "things are wrong",
               v.repaired ? ", repaired" : "; `berth verify --repair` removes what is corrupt");
    return v.findings == 0 || v.repaired ? CLI_OK : CLI_FAILED;
}
