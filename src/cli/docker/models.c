/* SPDX-License-Identifier: Apache-2.0 */
/* `docker model list`, `inspect`, `show`, `rm`, `tag`, `pull`, `push`, `purge`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/docker/plugin.h"
#include "cli/docker/text.h"
#include "cli/models.h"
#include "cli/artifact/facts.h"
#include "cli/artifact/package.h"
#include "cli/artifact/artifact.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"

#define PATH_BYTES 1800u

/* --- list --- */

/* The stored form of a name, or the name itself where it is none. */
static void long_name(const char *name, struct buf *out)
{
    struct oci_reference r;
    struct err ignored = ERR_INIT;
    buf_clear(out);
    if (oci_reference_parse(str_from(name), NULL, &r, &ignored) == 0)
        oci_reference_put(&r, out);
    else
        buf_append_str(out, name);
}

/* One line of the list: a name of a model, or a model without one. */
struct row {
    const char *tag; /* NULL: none */
    const json_t *model;
    char shown[256];
};

/* By the name without its tag, then by the tag, letters of either case alike. */
static int by_name(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    size_t nx = strcspn(x->shown, ":"), ny = strcspn(y->shown, ":");
    int d = strncasecmp(x->shown, y->shown, MIN_OF(nx, ny));
    if (d == 0 && nx != ny)
        d = nx < ny ? -1 : 1;
    return d ? d : strcasecmp(x->shown + nx, y->shown + ny);
}

/* The rows of all models, or of those with one name (owned by the caller). */
static struct row *rows_of(const json_t *models, const char *only, size_t *ret_n)
{
    size_t n = 0, i, k;
    const json_t *m, *tag;
    struct buf wanted, have;
    json_array_foreach((json_t *)models, i, m) n += 1 + json_array_size(json_object_get(m, "tags"));
    struct row *rows = mem_alloc((n + 1) * sizeof(*rows));
    buf_init(&wanted, LIMIT_PATH_BYTES);
    buf_init(&have, LIMIT_PATH_BYTES);
    long_name(only ? only : "", &wanted);
    n = 0;
    json_array_foreach((json_t *)models, i, m)
    {
        json_t *tags = json_object_get(m, "tags");
        json_array_foreach(tags, k, tag)
        {
            const char *name = json_string_value(tag);
            long_name(name ? name : "", &have);
            if (!name || (only && strcmp(buf_str(&have), buf_str(&wanted)) != 0))
                continue;
            rows[n] = (struct row){.tag = name, .model = m};
            facts_short_name(name, rows[n].shown, sizeof(rows[n].shown));
            n++;
        }
        if (json_array_size(tags) == 0 && !only)
            rows[n++] = (struct row){.model = m, .shown = "<none>"};
    }
    qsort(rows, n, sizeof(*rows), by_name);
    buf_release(&wanted);
    buf_release(&have);
    *ret_n = n;
    return rows;
}

static void print_list(const struct row *rows, size_t n)
{
    static const char *const titles[] = {"MODEL NAME", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE",
                                         "MODEL ID",   "CREATED",    "CONTEXT",      "SIZE"};
    struct table t;
    table_init(&t, titles, ARRAY_LEN(titles));
    t.is_docker = true;
    for (size_t i = 0; i < n; i++) {
        struct model_facts f;
        char span[32], text[64];
        const char *id = answer_text(rows[i].model, "id");
        facts_of(rows[i].model, &f);
        table_add(&t, rows[i].shown);
        table_add(&t, f.parameters);
        table_add(&t, f.quantization);
        table_add(&t, f.architecture);
        snprintf(text, sizeof(text), "%.12s", strlen(id) > 19 ? id + 7 : id);
        table_add(&t, text);
        snprintf(text, sizeof(text), "%s ago",
                 docker_span((int64_t)time(NULL) - f.created_unix, span));
        table_add(&t, f.created_unix > 0 ? text : "");
        snprintf(text, sizeof(text), "%lld", (long long)f.context_size);
        table_add(&t, f.context_size > 0 ? text : "");
        table_add(&t, f.size);
    }
    table_print(&t);
    table_release(&t);
}

static void print_ids(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *id = answer_text(rows[i].model, "id");
        printf("%.12s\n", strlen(id) > 19 ? id + 7 : id);
    }
}

/* Compose looks for a model by comparing what its file says with these: beside the stored name, the
 * shorter ones that mean the same. */
static void add_short_names(json_t *m)
{
    json_t *tags = json_object_get(m, "tags");
    for (size_t i = 0, n = json_array_size(tags); i < n; i++) {
        const char *name = json_string_value(json_array_get(tags, i));
        const char *hub = "docker.io/", *s = name ? name : "";
        bool is_hub = strncmp(s, hub, strlen(hub)) == 0;
        s += is_hub ? strlen(hub) : 0;
        bool is_ai = is_hub && strncmp(s, "ai/", 3) == 0;
        bool is_latest = str_has_suffix(str_from(s), STR_LIT(":latest"));
        for (int k = !is_hub; k <= is_ai; k++) {
            const char *form = k && is_ai ? s + 3 : s;
            if (is_hub)
                json_array_append_new(tags, json_string(form));
            if (is_latest)
                json_array_append_new(tags, json_stringn(form, strlen(form) - strlen(":latest")));
        }
        if (!is_hub && is_latest)
            json_array_append_new(tags, json_stringn(s, strlen(s) - strlen(":latest")));
    }
}

static void print_list_json(const struct row *rows, size_t n)
{
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        const json_t *id = json_object_get(rows[i].model, "id");
        while (k < json_array_size(all) &&
               !json_equal(json_object_get(json_array_get(all, k), "id"), id))
            k++;
        if (k < json_array_size(all))
            continue; /* another name of the same model */
        json_t *m = json_deep_copy(rows[i].model);
        add_short_names(m);
        json_array_append_new(all, m);
    }
    docker_print_json(all);
    json_decref(all);
}

static int print_openai(const struct client *c, const char *name)
{
    struct err err = ERR_INIT;
    struct buf path;
    json_t *answer = NULL;
    buf_init(&path, PATH_BYTES);
    buf_append_str(&path, name ? "/v1/models/" : "/v1/models");
    client_escape(&path, name ? name : "", true);
    int rc = buf_status(&path, "the model's name", &err);
    if (rc == 0)
        rc = client_json(c, "GET", buf_str(&path), NULL, &answer, &err);
    if (rc == 0)
        docker_print_json(answer);
    json_decref(answer);
    buf_release(&path);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

/* The models of another server that speaks OpenAI's API, at URL/models.  No key goes there. */
static int list_elsewhere(const char *url)
{
    static const char *const titles[] = {"MODEL NAME", "CREATED"};
    struct err err = ERR_INIT;
    struct client c = {.api_key = NULL};
    struct table t;
    json_t *answer = NULL, *m;
    size_t n = strlen(url), i;
    while (n && url[n - 1] == '/')
        n--;
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
        n >= sizeof(c.url)) {
        err_set(&err, E_INVALID, "--openaiurl: '%.64s' is no http:// or https:// address", url);
        return cli_fail(&err);
    }
    snprintf(c.url, sizeof(c.url), "%.*s", (int)n, url);
    int rc = client_json(&c, "GET", "/models", NULL, &answer, &err);
    json_t *data = json_object_get(answer, "data");
    if (rc == 0 && !json_is_array(data))
        rc = err_set(&err, E_FORMAT,
                     "%s/models: the answer is no list of models as OpenAI's API has it", c.url);
    table_init(&t, titles, ARRAY_LEN(titles));
    t.is_docker = true;
    json_array_foreach(data, i, m)
    {
        char span[32], text[64] = "";
        int64_t created = (int64_t)answer_number(m, "created");
        if (created)
            snprintf(text, sizeof(text), "%s ago",
                     docker_span((int64_t)time(NULL) - created, span));
        table_add(&t, answer_text(m, "id"));
        table_add(&t, text);
    }
    if (rc == 0)
        table_print(&t);
    table_release(&t);
    json_decref(answer);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

int docker_list(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *models = NULL;
    size_t n = 0;
    if (cli_has(a, "openaiurl"))
        return list_elsewhere(cli_flag(a, "openaiurl"));
    if (!docker_client(a, cli_has(a, "json"), &c))
        return CLI_FAILED;
    if (cli_has(a, "openai"))
        return print_openai(&c, NULL);
    if (artifact_models(&c, &models, &err) < 0)
        return cli_fail(&err);
    struct row *rows = rows_of(models, a->n_operands ? a->operands[0] : NULL, &n);
    if (cli_has(a, "json"))
        print_list_json(rows, n);
    else if (cli_has(a, "quiet"))
        print_ids(rows, n);
    else
        print_list(rows, n);
    mem_free(rows);
    json_decref(models);
    return CLI_OK;
}

/* --- inspect, show --- */

int docker_inspect(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *m = NULL;
    if (cli_has(a, "openai") && cli_has(a, "remote")) {
        err_set(&err, E_INVALID, "--remote flag cannot be used with --openai flag");
        return cli_fail(&err);
    }
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    if (cli_has(a, "openai"))
        return print_openai(&c, a->operands[0]);
    if (artifact_model(&c, a->operands[0], cli_has(a, "remote"), &m, &err) < 0)
        return cli_fail(&err);
    docker_print_json(m);
    json_decref(m);
    return CLI_OK;
}

static void print_fact(const char *label, const char *value)
{
    if (*value)
        printf("%-14s%s\n", label, value);
}

static void print_pairs(const char *title, const json_t *pairs)
{
    const char *key;
    json_t *v;
    if (json_object_size(pairs) == 0)
        return;
    printf("\n%s\n", title);
    json_object_foreach((json_t *)pairs, key, v)
        printf("  %s: %s\n", key, json_is_string(v) ? json_string_value(v) : "");
}

int docker_show(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct model_facts f;
    struct buf tags;
    json_t *m = NULL;
    const json_t *tag;
    size_t i;
    char text[32];
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    if (artifact_model(&c, a->operands[0], cli_has(a, "remote"), &m, &err) < 0)
        return cli_fail(&err);
    facts_of(m, &f);
    buf_init(&tags, LIMIT_STORE_INDEX_BYTES);
    json_array_foreach(json_object_get(m, "tags"), i, tag)
        buf_printf(&tags, "%s%s", i ? ", " : "", json_string_value(tag));
    print_fact("Model:", answer_text(m, "id"));
    print_fact("Tags:", buf_str(&tags));
    print_fact("Created:", f.created_unix > 0 ? docker_time(f.created_unix, text) : "");
    print_fact("Format:", f.format);
    print_fact("Architecture:", f.architecture);
    print_fact("Parameters:", f.parameters);
    print_fact("Size:", f.size);
    print_fact("Quantization:", f.quantization);
    snprintf(text, sizeof(text), "%lld", (long long)f.context_size);
    print_fact("Context Size:", f.context_size > 0 ? text : "");
    print_pairs("GGUF Metadata:", json_object_get(f.config, "gguf"));
    print_pairs("Safetensors Metadata:", json_object_get(f.config, "safetensors"));
    print_pairs("Diffusers Metadata:", json_object_get(f.config, "diffusers"));
    buf_release(&tags);
    json_decref(m);
    return CLI_OK;
}

/* --- rm, tag, purge --- */

static void print_removed(const json_t *done)
{
    size_t i;
    const json_t *e;
    json_array_foreach((json_t *)done, i, e)
    {
        if (*answer_text(e, "Untagged"))
            printf("Untagged: %s\n", answer_text(e, "Untagged"));
        if (*answer_text(e, "Deleted"))
            printf("Deleted: %s\n", answer_text(e, "Deleted"));
    }
}

int docker_rm(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    int rc = 0;
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    for (unsigned i = 0; rc == 0 && i < a->n_operands; i++) {
        json_t *done = json_array();
        rc = artifact_remove(&c, a->operands[i], cli_has(a, "force"), done, &err);
        print_removed(done);
        json_decref(done);
    }
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

int docker_tag(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    if (artifact_tag(&c, a->operands[0], a->operands[1], &err) < 0)
        return cli_fail(&err);
    printf("Model \"%s\" tagged successfully with \"%s\"\n", a->operands[0], a->operands[1]);
    return CLI_OK;
}

static bool wants_purge(void)
{
    char line[16];
    fputs("WARNING! This will remove all models from the local store.\n"
          "Are you sure you want to continue? [y/N] ",
          stdout);
    fflush(stdout);
    return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

int docker_purge(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    json_t *answer = NULL, *body = json_pack("{s:b}", "all", 1);
    if (!cli_has(a, "force") && !wants_purge()) {
        json_decref(body);
        return CLI_OK;
    }
    int status = CLI_FAILED;
    if (docker_client(a, false, &c)) {
        int rc = client_json(&c, "POST", "/engines/unload", body, &answer, &err);
        json_decref(answer);
        answer = NULL;
        if (rc == 0)
            rc = client_json(&c, "DELETE",
                             cli_has(a, "force") ? "/models/purge?force=true" : "/models/purge",
                             NULL, &answer, &err);
        status = rc < 0 ? cli_fail(&err) : CLI_OK;
    }
    json_decref(answer);
    json_decref(body);
    return status;
}

/* --- pull, push --- */

static int finish(struct transfer *t, int rc, const char *verb, const char *ref,
                  const struct err *err)
{
    if (rc == 0)
        puts(t->message);
    transfer_release(t);
    if (rc == -E_CANCELED)
        return artifact_interrupted("docker model", verb, ref);
    return rc < 0 ? cli_fail(err) : CLI_OK;
}

typedef int (*move_fn)(struct client *c, const char *ref, enum transfer_style style,
                       struct transfer *ret, struct err *err);

/* pull and push: the same but for what is asked of the daemon. */
static int move_model(const struct cli_args *a, move_fn move, const char *verb)
{
    struct err err = ERR_INIT;
    struct client c;
    struct transfer t;
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    if (artifact_heed_interrupts(&c, &err) < 0)
        return cli_fail(&err);
    int rc = move(&c, a->operands[0], TRANSFER_DOCKER, &t, &err);
    return finish(&t, rc, verb, a->operands[0], &err);
}

int docker_pull(const struct cli_args *a)
{
    return move_model(a, artifact_pull, "pull");
}

int docker_push(const struct cli_args *a)
{
    return move_model(a, artifact_push, "push");
}

/* --- package --- */

int docker_package(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct client c;
    struct pack p;
    struct transfer t = {.id = ""};
    const char *name = a->operands[0];
    if (!docker_client(a, false, &c))
        return CLI_FAILED;
    pack_init(&p);
    int rc = artifact_heed_interrupts(&c, &err);
    if (rc == 0)
        rc = package_make(&p, &c, a, &err);
    if (rc == 0)
        rc = package_load(&p, &c, TRANSFER_BERTH, &err);
    if (rc == 0)
        rc = artifact_tag(&c, p.manifest_digest, name, &err);
    if (rc == 0 && cli_has(a, "push"))
        rc = artifact_push(&c, name, TRANSFER_DOCKER, &t, &err);
    if (rc == 0)
        printf("Model %s successfully\n", cli_has(a, "push") ? "packaged and pushed" : "packaged");
    transfer_release(&t);
    pack_release(&p);
    return rc == -E_CANCELED ? CLI_INTERRUPTED : rc < 0 ? cli_fail(&err) : CLI_OK;
}
