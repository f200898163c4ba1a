/* SPDX-License-Identifier: Apache-2.0 */
/* `berth inspect`: everything about one model: what the daemon knows of it, and what its file says
 * of itself.
 *
 * The file is read by a process of its own, `berth debug show`, in the sandbox of a worker: this
 * one reads its JSON and not a byte of the model. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/artifact/artifact.h"
#include "cli/artifact/facts.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/models.h"
#include "cli/self.h"
#include "cli/table.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"

#define SHOWN_MAX_BYTES (256u << 20)
#define TEXT_COLUMNS    60

static const char *metadata_text(const json_t *file, const char *key)
{
    return answer_text(json_object_get(file, "metadata"), key);
}

/* A key of the model's own architecture, such as "llama.context_length". */
static uint64_t metadata_number(const json_t *file, const char *key)
{
    char name[160];
    snprintf(name, sizeof(name), "%.64s.%s", metadata_text(file, "general.architecture"), key);
    return answer_number(json_object_get(file, "metadata"), name);
}

static void print_file(const json_t *file)
{
    char s[16];
    bool has_template = *metadata_text(file, "tokenizer.chat_template") != '\0';
    fact_print("format", "%s %llu, %zu tensors", answer_text(file, "format"),
               (unsigned long long)answer_number(file, "version"),
               json_array_size(json_object_get(file, "tensors")));
    fact_print("architecture", "%s", metadata_text(file, "general.architecture"));
    text_count(answer_number(file, "parameters"), s);
    fact_print("parameters", "%s", s);
    fact_print("quantization", "%s", answer_text(file, "quantization"));
    fact_print("layers", "%llu", (unsigned long long)metadata_number(file, "block_count"));
    fact_print("trained for", "%llu tokens",
               (unsigned long long)metadata_number(file, "context_length"));
    fact_print("chat template", "%s", has_template ? "its own" : "none of its own");
    if (*metadata_text(file, "general.license"))
        fact_print("licence", "%.200s", metadata_text(file, "general.license"));
}

static void print_prepared(const json_t *m, const char *title, const char *state, const char *bytes)
{
    char size[16];
    text_bytes(answer_number(m, bytes), size);
    if (answer_number(m, bytes))
        fact_print(title, "%s, %s", answer_text(m, state), size);
    else if (*answer_text(m, state))
        fact_print(title, "%s", answer_text(m, state));
}

static void print_loaded(const json_t *m)
{
    char a[16], b[16], c[16], span[32];
    text_bytes(answer_number(m, "weight_bytes"), a);
    text_bytes(answer_number(m, "kv_bytes"), b);
    text_bytes(answer_number(m, "scratch_bytes"), c);
    fact_print("process", "%llu, loaded %s ago", (unsigned long long)answer_number(m, "pid"),
               text_span((uint64_t)time(NULL) - answer_number(m, "loaded_unix"), span));
    fact_print("context", "%llu tokens", (unsigned long long)answer_number(m, "n_ctx"));
    fact_print("memory", "%s weights, %s cache, %s scratch", a, b, c);
    print_prepared(m, "prepared", "prepared", "prepared_bytes");
    text_bytes(answer_number(m, "draft_weight_bytes"), a);
    if (*answer_text(m, "draft_model"))
        fact_print("draft model", "%s, %s of the weights", answer_text(m, "draft_model"), a);
    print_prepared(m, "draft prepared", "draft_prepared", "draft_prepared_bytes");
    if (*answer_text(m, "draft_refusal"))
        fact_print("draft model", "none: %s", answer_text(m, "draft_refusal"));
    if (answer_number(m, "n_drafted"))
        fact_print("guesses", "%llu of %llu tokens came true",
                   (unsigned long long)answer_number(m, "n_accepted"),
                   (unsigned long long)answer_number(m, "n_drafted"));
    if (answer_number(m, "blocks_total"))
        fact_print("cache blocks", "%llu of %llu in use",
                   (unsigned long long)answer_number(m, "blocks_used"),
                   (unsigned long long)answer_number(m, "blocks_total"));
    fact_print("answers", "%llu under way, %llu waiting",
               (unsigned long long)answer_number(m, "n_running"),
               (unsigned long long)answer_number(m, "n_waiting"));
}

static void add_pair(struct table *t, const char *key, const json_t *v)
{
    struct buf text, cell;
    buf_init(&text, SHOWN_MAX_BYTES);
    buf_init(&cell, 4096);
    if (json_is_object(v)) /* an array: its length and first elements */
        buf_printf(&text, "%llu x %s", (unsigned long long)answer_number(v, "length"),
                   answer_text(v, "type"));
    else if (json_is_string(v))
        buf_append(&text, json_string_value(v), json_string_length(v));
    else
        json_put_value(&text, v);
    buf_printf(&cell, "%.*s%s", TEXT_COLUMNS, buf_str(&text), text.len > TEXT_COLUMNS ? "..." : "");
    table_add(t, key);
    table_add(t, buf_str(&cell));
    buf_release(&cell);
    buf_release(&text);
}

static void print_pairs(const char *title, const json_t *object)
{
    const char *const titles[] = {title, "VALUE"};
    struct table t;
    const char *key;
    json_t *v;
    table_init(&t, titles, ARRAY_LEN(titles));
    json_object_foreach((json_t *)object, key, v) add_pair(&t, key, v);
    putchar('\n');
    table_print(&t);
    table_release(&t);
}

static void print_known(const json_t *m)
{
    fact_print("state", "%s", answer_text(m, "state"));
    if (*answer_text(m, "failure"))
        fact_print("failure", "%s", answer_text(m, "failure"));
    if (*answer_text(m, "digest") && strcmp(answer_text(m, "source"), "store") != 0)
        fact_print("digest", "%s", answer_text(m, "digest")); /* a stored one's stands above */
    if (strcmp(answer_text(m, "state"), "ready") == 0)
        print_loaded(m);
    if (answer_number(m, "n_requests"))
        fact_print("since start",
                   "%llu requests, %llu tokens read (%llu from the cache), %llu "
                   "written",
                   (unsigned long long)answer_number(m, "n_requests"),
                   (unsigned long long)answer_number(m, "n_prompt_tokens"),
                   (unsigned long long)answer_number(m, "n_cached_tokens"),
                   (unsigned long long)answer_number(m, "n_generated_tokens"));
    if (json_object_size(json_object_get(m, "settings")))
        print_pairs("DECLARED", json_object_get(m, "settings"));
}

struct subject {
    json_t *known;   /* owned; the daemon's entry, NULL: no daemon, or it knows none */
    json_t *stored;  /* owned; of a model of the store or a registry, what its artifact says */
    json_t *file;    /* owned; NULL: its file is not on this machine */
    struct buf path; /* owned */
};

/* A model of the store, or with --remote of its registry. */
static int look_into_store(const struct cli_args *a, struct subject *s, struct client *c,
                           struct err *err)
{
    const char *model = a->operands[0];
    struct buf path;
    struct err ignored = ERR_INIT;
    bool is_remote = cli_has(a, "remote");
    if (is_remote && client_ensure(c, err) < 0)
        return -err->code;
    int rc = artifact_model(c, model, is_remote, &s->stored, err);
    buf_init(&path, LIMIT_PATH_BYTES);
    buf_append_str(&path, "/berth/v1/models/");
    client_escape(&path, model, true);
    if (rc == 0 && !is_remote &&
        client_json(c, "GET", buf_str(&path), NULL, &s->known, &ignored) < 0)
        s->known = NULL;
    buf_release(&path);
    return rc;
}

/* Asks the daemon if one listens. */
static int look_up(const struct cli_args *a, struct subject *s, struct err *err)
{
    const char *model = a->operands[0];
    struct client c;
    json_t *models = NULL;
    int there = client_init(&c, &a->config, err);
    if (there == 0 && cli_has(a, "remote"))
        return look_into_store(a, s, &c, err);
    if (there == 0)
        there = client_probe(&c, err);
    if (there > 0)
        there = models_fetch(&c, &models, err) < 0 ? -err->code : 1;
    if (there < 0)
        return there;
    const json_t *m = models_pick(models, model);
    bool is_file = m && strcmp(answer_text(m, "source"), "store") != 0;
    s->known = is_file ? json_incref((json_t *)m) : NULL;
    json_decref(models);
    m = s->known;
    if (there && !is_file && !model_is_path(model))
        return look_into_store(a, s, &c, err);
    if (m && !model_is_path(model)) {
        buf_append_str(&s->path, answer_text(s->known, "path"));
        return buf_status(&s->path, "the model's path", err);
    }
    return model_find(model, config_str(&a->config, CONFIG_models_dir), &s->path, err);
}

static void print(const struct subject *s)
{
    const json_t *first = json_array_get(json_object_get(s->file, "files"), 0);
    char size[16], ago[32];
    if (s->stored) {
        show_facts(s->stored);
        if (s->known)
            print_known(s->known);
        show_metadata(s->stored);
        return;
    }
    if (s->known)
        fact_print("name", "%s", answer_text(s->known, "name"));
    fact_print("file", "%s", buf_str(&s->path));
    text_bytes(answer_number(s->known, "file_bytes") ? answer_number(s->known, "file_bytes")
                                                     : answer_number(first, "bytes"),
               size);
    fact_print("size", "%s", size);
    text_ago((int64_t)answer_number(s->known, "modified_unix"), ago);
    if (*ago)
        fact_print("modified", "%s", ago);
    if (s->file)
        print_file(s->file);
    if (s->known)
        print_known(s->known);
    if (s->file)
        print_pairs("METADATA", json_object_get(s->file, "metadata"));
}

int cmd_inspect(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct subject s = {.known = NULL};
    buf_init(&s.path, LIMIT_PATH_BYTES);
    int rc = look_up(a, &s, &err);
    /* A daemon on another machine has its files there. */
    if (rc == 0 && !s.stored && (!s.known || access(buf_str(&s.path), R_OK) == 0))
        rc = self_show_model(buf_str(&s.path), &s.file, &err);
    if (rc == 0 && cli_has(a, "json")) {
        json_t *j = s.known    ? json_deep_copy(s.known)
                    : s.stored ? json_object()
                               : json_pack("{s:s}", "path", buf_str(&s.path));
        if (s.stored)
            json_object_update_missing(j, s.stored);
        if (s.file)
            json_object_set(j, "file", s.file);
        cli_print_json(j);
        json_decref(j);
    } else if (rc == 0) {
        print(&s);
    }
    json_decref(s.file);
    json_decref(s.stored);
    json_decref(s.known);
    buf_release(&s.path);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}
