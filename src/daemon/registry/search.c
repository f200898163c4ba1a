/* SPDX-License-Identifier: Apache-2.0 */
/* Implements search.h. */
#include "daemon/registry/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/registry/registry_impl.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/codec/utf8.h"
#include "lib/sys/loop.h"

#define ANSWER_BYTES      (4u << 20) /* of a hub */
#define NAME_BYTES        200u
#define DESCRIPTION_BYTES 300u
#define DATE_BYTES        40u

struct search_row {
    char name[NAME_BYTES + 8], description[DESCRIPTION_BYTES + 8], updated_at[DATE_BYTES + 8];
    const char *backend, *source; /* static */
    int64_t downloads, stars;
    bool is_official;
};

struct search {
    struct registry *r;
    const char *term;
    uint32_t limit, n;
    struct search_row *rows; /* owned, [limit] of each source */
    uint64_t until_ms;
};

unsigned search_sources(const char *name)
{
    static const struct {
        const char *name;
        unsigned sources;
    } all[] = {{"", SEARCH_DOCKER | SEARCH_HUGGING_FACE},
               {"all", SEARCH_DOCKER | SEARCH_HUGGING_FACE},
               {"dockerhub", SEARCH_DOCKER},
               {"docker", SEARCH_DOCKER},
               {"hub", SEARCH_DOCKER},
               {"huggingface", SEARCH_HUGGING_FACE},
               {"hf", SEARCH_HUGGING_FACE}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (strcmp(all[i].name, name) == 0)
            return all[i].sources;
    }
    return 0;
}

/* ---- what a hub says of itself ---- */

static bool is_drawn(uint32_t cp)
{
    bool is_control = cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || cp == 0x2028 || cp == 0x2029;
    bool is_turn = (cp >= 0x200E && cp <= 0x200F) || (cp >= 0x202A && cp <= 0x202E) ||
                   (cp >= 0x2066 && cp <= 0x2069) || cp == 0x061C;
    return !is_control && !is_turn && cp != 0xFEFF;
}

/* s as one line of at most max bytes, whole characters; ret has max + 1. */
static void put_line(struct str s, size_t max, char *ret)
{
    size_t n = 0;
    for (size_t at = 0, len = 0; at < s.len; at += len) {
        uint32_t cp;
        char c[UTF8_MAX_BYTES];
        utf8_next(s.p + at, s.len - at, &cp, &len);
        bool is_space = cp == ' ' || !is_drawn(cp);
        if (is_space && (n == 0 || ret[n - 1] == ' '))
            continue;
        size_t k = utf8_put(is_space ? ' ' : cp, c);
        if (n + k > max)
            break;
        memcpy(ret + n, c, k);
        n += k;
    }
    ret[n > 0 && ret[n - 1] == ' ' ? n - 1 : n] = '\0';
}

/* A string's or a number's absence, or its being of another type, is no reason to drop a row. */
static struct str text_of(const json_t *o, const char *key)
{
    struct str s = STR_LIT("");
    struct err ignored = ERR_INIT;
    return json_field_str(o, key, &s, &ignored) == 1 ? s : (struct str)STR_LIT("");
}

static int64_t count_of(const json_t *o, const char *key)
{
    int64_t n = 0;
    struct err ignored = ERR_INIT;
    return json_field_int(o, key, 0, INT64_MAX, &n, &ignored) == 1 ? n : 0;
}

/* Letters, digits, ".", "_", "-", and n_slashes of "/" between parts. */
static bool is_name(struct str s, unsigned n_slashes)
{
    unsigned seen = 0;
    char before = '/';
    if (s.len == 0 || s.len > NAME_BYTES - 16)
        return false;
    for (size_t i = 0; i < s.len; before = s.p[i++]) {
        char c = s.p[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '/')
            seen++;
        if (!is_word && (before == '/' || !memchr("._-/", c, 4)))
            return false;
    }
    return before != '/' && seen == n_slashes;
}

static bool put_name(struct search_row *row, const char *prefix, struct str name)
{
    return (size_t)snprintf(row->name, sizeof(row->name), "%s%.*s", prefix, STR_ARG(name)) <
           sizeof(row->name);
}

static bool row_of_docker(const json_t *o, struct search_row *ret)
{
    struct str name = text_of(o, "name"), about = text_of(o, "short_description");
    if (!is_name(name, 0) || !put_name(ret, "ai/", name))
        return false;
    put_line(about.len ? about : text_of(o, "description"), DESCRIPTION_BYTES, ret->description);
    put_line(text_of(o, "last_updated"), DATE_BYTES, ret->updated_at);
    ret->backend = str_has_suffix(name, STR_LIT("-vllm")) ? "vllm" : "llama.cpp";
    ret->source = "Docker Hub";
    ret->downloads = count_of(o, "pull_count");
    ret->stars = count_of(o, "star_count");
    ret->is_official = true;
    return true;
}

static const char *backend_of_tags(const json_t *o)
{
    const json_t *tags = NULL;
    struct err ignored = ERR_INIT;
    bool has_gguf = false, has_safetensors = false;
    if (json_field_arr(o, "tags", &tags, &ignored) != 1)
        return "";
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const char *tag = json_string_value(json_array_get(tags, i));
        has_gguf |= tag && strcmp(tag, "gguf") == 0;
        has_safetensors |= tag && strcmp(tag, "safetensors") == 0;
    }
    return has_gguf ? "llama.cpp" : has_safetensors ? "vllm" : "";
}

static bool row_of_hugging_face(const json_t *o, struct search_row *ret)
{
    struct str name = text_of(o, "id");
    if (!name.len)
        name = text_of(o, "modelId");
    if (!is_name(name, 1) || !put_name(ret, "hf.co/", name))
        return false;
    put_line(text_of(o, "pipeline_tag"), DESCRIPTION_BYTES, ret->description);
    put_line(text_of(o, "lastModified"), DATE_BYTES, ret->updated_at);
    ret->backend = backend_of_tags(o);
    ret->source = "Hugging Face";
    ret->downloads = count_of(o, "downloads");
    ret->stars = count_of(o, "likes");
    return true;
}

/* ---- asking ---- */

struct source {
    unsigned bit;
    const char *name;
    bool is_hub;
    const char *list; /* the answer's member with the rows; NULL: the answer is the list */
    bool (*row)(const json_t *o, struct search_row *ret);
};
static const struct source sources_all[] = {
    {SEARCH_DOCKER, "Docker Hub", false, "results", row_of_docker},
    {SEARCH_HUGGING_FACE, "Hugging Face", true, NULL, row_of_hugging_face},
};

static bool collect(void *ctx, const struct fetch_response *r, const char *p, size_t n)
{
    (void)r;
    return buf_append(ctx, p, n) == 0;
}

static bool is_in_time(void *ctx, const struct registry_progress *p)
{
    const struct search *s = ctx;
    (void)p;
    return loop_now_ms() < s->until_ms;
}

static int by_downloads(const void *a, const void *b)
{
    const struct search_row *x = a, *y = b;
    return x->downloads != y->downloads ? (x->downloads < y->downloads ? 1 : -1)
                                        : strcmp(x->name, y->name);
}

static int read_rows(struct search *s, const struct source *from, const struct buf *answer,
                     struct err *err)
{
    json_t *root = NULL;
    const json_t *list;
    int rc = json_parse((struct str){answer->data, answer->len}, &root, err);
    list = from->list && rc == 0 ? json_object_get(root, from->list) : root;
    if (rc == 0 && !json_is_array(list))
        rc = err_set(err, E_FORMAT, "there is no list of models in its answer");
    uint32_t first = s->n;
    for (size_t i = 0; rc == 0 && i < json_array_size(list) && s->n - first < s->limit; i++) {
        const json_t *o = json_array_get(list, i);
        struct search_row *row = &s->rows[s->n];
        *row = (struct search_row){.backend = ""};
        if (json_is_object(o) && from->row(o, row))
            s->n++;
    }
    qsort(s->rows + first, s->n - first, sizeof(*s->rows), by_downloads);
    json_decref(root);
    return rc;
}

static int ask(struct search *s, const struct source *from, struct session *session,
               struct fetch *f, struct err *err)
{
    struct fetch_response resp;
    struct buf url, answer, said;
    buf_init(&url, URL_BYTES);
    buf_init(&answer, ANSWER_BYTES);
    buf_init(&said, ERROR_BODY_BYTES);
    fetch_response_init(&resp);
    buf_append_str(&url, buf_str(&session->base));
    if (from->is_hub)
        buf_printf(&url,
                   "/api/models?apps=llama.cpp,vllm&sort=downloads&limit=%u&search=", s->limit);
    else
        buf_printf(&url, "/v2/repositories/ai/?page_size=%u&name=", s->limit);
    url_put_escaped(str_from(s->term), "", &url);
    const struct session_request rq = {.method = "GET",
                                       .url = buf_str(&url),
                                       .on_data = collect,
                                       .ctx = &answer,
                                       .wait_ms = SEARCH_MS};
    int rc = buf_status(&url, "an address", err);
    if (rc == 0)
        rc = session_do(session, f, &rq, &resp, &said, err);
    if (rc < 0 && answer.failed)
        rc = err_set(err, E_LIMIT, "its answer has more than %u bytes", ANSWER_BYTES);
    else if (rc == -E_CANCELED)
        rc = err_set(err, E_TIMEOUT, "it took longer than %u seconds", SEARCH_MS / 1000);
    else if (rc == 0 && resp.status != 200)
        rc = session_error(session, "searching", &resp, &said, err);
    if (rc == 0)
        rc = read_rows(s, from, &answer, err);
    fetch_response_release(&resp);
    buf_release(&said);
    buf_release(&answer);
    buf_release(&url);
    return rc;
}

static int search_one(struct search *s, const struct source *from, struct err *err)
{
    const struct registry_options o = {.on_progress = is_in_time, .ctx = s};
    struct job job;
    struct session session;
    struct fetch *f = NULL;
    s->until_ms = loop_now_ms() + SEARCH_MS;
    job_init(&job, s->r, &o, false);
    int rc = session_init(&session, &job, from->is_hub ? "huggingface.co" : "hub.docker.com",
                          from->is_hub ? "models" : "ai",
                          from->is_hub ? s->r->cfg.hub_endpoint : s->r->cfg.search_endpoint, err);
    session.is_hub = from->is_hub;
    if (rc == 0)
        rc = job_fetch_new(&job, &f, err);
    if (rc == 0)
        rc = ask(s, from, &session, f, err);
    fetch_free(f);
    session_release(&session);
    job_release(&job);
    return rc < 0 ? err_wrap(err, "searching %s", from->name) : 0;
}

static void put_member(struct buf *out, const char *key, const char *value)
{
    buf_printf(out, "\"%s\":", key);
    json_put_str(out, str_from(value));
    buf_append_char(out, ',');
}

static void put_rows(const struct search *s, struct buf *out)
{
    buf_append_str(out, "{\"results\":[");
    for (uint32_t i = 0; i < s->n; i++) {
        const struct search_row *row = &s->rows[i];
        buf_append_str(out, i ? ",{" : "{");
        put_member(out, "name", row->name);
        put_member(out, "description", row->description);
        put_member(out, "backend", row->backend);
        put_member(out, "source", row->source);
        put_member(out, "updated_at", row->updated_at);
        buf_printf(out, "\"downloads\":%lld,\"stars\":%lld,\"official\":%s}",
                   (long long)row->downloads, (long long)row->stars,
                   row->is_official ? "true" : "false");
    }
    buf_append_char(out, ']');
}

int registry_search(struct registry *r, const char *term, unsigned sources, uint32_t limit,
                    struct buf *out, struct err *err)
{
    struct search s = {.r = r, .term = term, .limit = limit};
    struct err failed[ARRAY_LEN(sources_all)] = {ERR_INIT};
    unsigned n_failed = 0, n_asked = 0;
    s.rows = mem_try_alloc(limit * ARRAY_LEN(sources_all), sizeof(*s.rows), err);
    if (!s.rows)
        return -err->code;
    for (size_t i = 0; i < ARRAY_LEN(sources_all); i++) {
        if (!(sources & sources_all[i].bit))
            continue;
        n_asked++;
        if (search_one(&s, &sources_all[i], &failed[n_failed]) < 0)
            n_failed++;
    }
    int rc = 0;
    if (n_failed == n_asked) {
        *err = failed[0];
        rc = -(int)failed[0].code;
    } else {
        put_rows(&s, out);
        buf_append_str(out, ",\"warnings\":[");
        for (unsigned i = 0; i < n_failed; i++) {
            buf_append_str(out, i ? "," : "");
            json_put_str(out, str_from(failed[i].msg));
        }
        buf_append_str(out, "]}");
        rc = buf_status(out, "the list of models", err);
    }
    mem_free(s.rows);
    return rc;
}
