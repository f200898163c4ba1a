/* SPDX-License-Identifier: Apache-2.0 */
/* Implements body.h: the table of param.def, the walk over a body's keys, and refusals that name
 * near names. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/api/openai/body_impl.h"
#include "lib/base/limits.h"
#include "lib/codec/json.h"

#define COMPLETION API_COMPLETION
#define CHAT       API_CHAT
#define BOTH       (API_COMPLETION | API_CHAT)

enum kind { KIND_NUM, KIND_UINT, KIND_FLAG, KIND_CALL, KIND_IGNORED, KIND_REFUSED };

struct row {
    const char *name, *doc, *neutral;
    read_fn fn;
    double min, max;
    size_t offset; /* in gen_params */
    unsigned where;
    enum kind kind;
};

static const struct row rows[] = {
#define FIELD(field) offsetof(struct gen_params, field)
#define NUM(name, where, field, min, max, doc)                                                     \
    {name, doc, "", NULL, min, max, FIELD(field), where, KIND_NUM},
#define UINT(name, where, field, min, max, doc)                                                    \
    {name, doc, "", NULL, min, max, FIELD(field), where, KIND_UINT},
#define FLAG(name, where, field, doc)      {name, doc, "", NULL, 0, 0, FIELD(field), where, KIND_FLAG},
#define CALL(name, where, fn, doc)         {name, doc, "", read_##fn, 0, 0, 0, where, KIND_CALL},
#define IGNORED(name, where, why)          {name, why, "", NULL, 0, 0, 0, where, KIND_IGNORED},
#define REFUSED(name, where, neutral, why) {name, why, neutral, NULL, 0, 0, 0, where, KIND_REFUSED},
#include "daemon/api/openai/param.def"
};

size_t api_param_count(void)
{
    return ARRAY_LEN(rows);
}

struct api_param api_param_at(size_t i)
{
    static const char *const kinds[] = {"number", "integer", "boolean",
                                        "value",  "ignored", "refused"};
    const struct row *row = &rows[i];
    return (struct api_param){.name = row->name,
                              .kind = kinds[row->kind],
                              .doc = row->doc,
                              .neutral = row->neutral,
                              .dialects = row->where,
                              .min = row->min,
                              .max = row->max};
}

static const struct row *row_find(const char *name, unsigned dialect)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if ((rows[i].where & dialect) && strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

/* Levenshtein distance of short names, or a large number for long ones. */
static unsigned distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    unsigned row[MAX + 1];
    size_t la = strlen(a), lb = strlen(b);
    if (la > MAX || lb > MAX)
        return MAX;
    for (size_t j = 0; j <= lb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned replace =
                diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            diagonal = row[j];
            row[j] = MIN_OF(replace, MIN_OF(row[j - 1], row[j]) + 1);
        }
    }
    return row[lb];
}

static int refuse_unknown(struct reader *r, const char *name)
{
    const struct row *near = NULL, *elsewhere = row_find(name, BOTH);
    unsigned best = 4;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned d = rows[i].where & r->b->dialect && rows[i].kind < KIND_IGNORED
                         ? distance(name, rows[i].name)
                         : best;
        if (d < best) {
            best = d;
            near = &rows[i];
        }
    }
    if (elsewhere)
        return api_refuse(r->e, name, "unknown_parameter",
                          "'%s' is a parameter of %s, not of this route", name,
                          elsewhere->where == CHAT ? "/v1/chat/completions" : "/v1/completions");
    if (near)
        return api_refuse(r->e, name, "unknown_parameter",
                          "'%s' is not a parameter here; did you mean '%s'?", name, near->name);
    return api_refuse(r->e, name, "unknown_parameter", "'%s' is not a parameter here", name);
}

/* v's compact JSON is one of the neutral values, separated by '|'. */
static bool is_neutral(const char *neutral, const json_t *v)
{
    struct buf text;
    bool same = false;
    buf_init(&text, 64);
    json_put_value(&text, v);
    for (const char *s = neutral; *s && !text.failed && !same;) {
        size_t n = strcspn(s, "|");
        same = n == text.len && memcmp(s, text.data, n) == 0;
        s += n + (s[n] == '|');
    }
    buf_release(&text);
    return same;
}

int read_int(struct reader *r, const char *name, const json_t *v, int64_t min, int64_t max,
             int64_t *ret)
{
    double real = json_real_value(v);
    /* 8.0 is an integer to clients that know only doubles. */
    bool whole = json_is_real(v) && real == floor(real) && fabs(real) <= 9007199254740992.0;
    if (!json_is_integer(v) && !whole)
        return api_refuse(r->e, name, "invalid_type",
                          "'%s' must be an integer between %lld and %lld, not %s", name,
                          (long long)min, (long long)max, json_kind(v));
    int64_t i = json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)real;
    if (i < min || i > max)
        return api_refuse(r->e, name, "invalid_value",
                          "'%s' must be between %lld and %lld, not %lld", name, (long long)min,
                          (long long)max, (long long)i);
    *ret = i;
    return 0;
}

int read_num(struct reader *r, const char *name, const json_t *v, double min, double max,
             double *ret)
{
    if (!json_is_number(v))
        return api_refuse(r->e, name, "invalid_type",
                          "'%s' must be a number between %g and %g, not %s", name, min, max,
                          json_kind(v));
    double d = json_number_value(v);
    if (!(d >= min && d <= max))
        return api_refuse(r->e, name, "invalid_value", "'%s' must be between %g and %g, not %g",
                          name, min, max, d);
    *ret = d;
    return 0;
}

int no_room(struct reader *r, const char *name, const struct err *err)
{
    if (err->code == E_LIMIT)
        return api_refuse(r->e, name, "invalid_value", "'%s' is too large: %s", name, err->msg);
    api_error_from(r->e, err);
    return -err->code;
}

int keep_json(struct reader *r, const char *name, const json_t *v, struct str *ret)
{
    struct err err = ERR_INIT;
    struct buf text;
    buf_init(&text, LIMIT_TEXT_BYTES);
    json_put_value(&text, v);
    int rc = buf_status(&text, "as JSON", &err);
    char *p = rc == 0 ? arena_try_dup(&r->b->req.arena, text.data, text.len, &err) : NULL;
    if (p)
        *ret = (struct str){p, text.len};
    buf_release(&text);
    return p ? 0 : no_room(r, name, &err);
}

static int read_row(struct reader *r, const struct row *row, const json_t *v)
{
    char *field = (char *)&r->b->req.params + row->offset;
    double d = 0;
    int64_t i = 0;
    int rc = 0;
    switch (row->kind) {
    case KIND_NUM:
        rc = read_num(r, row->name, v, row->min, row->max, &d);
        if (rc == 0)
            *(float *)(void *)field = (float)d;
        break;
    case KIND_UINT:
        rc = read_int(r, row->name, v, (int64_t)row->min, (int64_t)row->max, &i);
        if (rc == 0)
            *(uint32_t *)(void *)field = (uint32_t)i;
        break;
    case KIND_FLAG:
        if (!json_is_boolean(v))
            return api_refuse(r->e, row->name, "invalid_type", "'%s' must be true or false, not %s",
                              row->name, json_kind(v));
        *(bool *)(void *)field = json_is_true(v);
        break;
    case KIND_CALL: rc = row->fn(r, row->name, v); break;
    case KIND_IGNORED: break;
    case KIND_REFUSED:
        if (!is_neutral(row->neutral, v))
            rc = api_refuse(r->e, row->name, "unsupported_parameter",
                            "'%s' is not supported with this value: %s", row->name, row->doc);
        break;
    }
    return rc;
}

int draw_seed(struct gen_params *p, struct err *err)
{
    if (getrandom(&p->seed, sizeof(p->seed), 0) != (ssize_t)sizeof(p->seed))
        return err_set_sys(err, E_INTERNAL, "no random seed could be drawn");
    p->has_seed = true;
    return 0;
}

/* What only the whole body shows. */
static int check_whole(struct reader *r)
{
    struct api_body *b = r->b;
    struct gen_params *p = &b->req.params;
    if (!b->model)
        return api_refuse(r->e, "model", "missing_required_parameter",
                          "'model' is missing: name one of the models in GET /v1/models");
    if (b->dialect == API_CHAT && b->req.messages_json.len == 0)
        return api_refuse(r->e, "messages", "missing_required_parameter",
                          "'messages' is missing: an array of at least one message");
    if (b->dialect == API_COMPLETION && b->req.input == GEN_INPUT_TEXT && !b->req.text.p)
        return api_refuse(r->e, "prompt", "missing_required_parameter",
                          "'prompt' is missing: a string or token ids");
    if (p->echo && p->want_logprobs)
        return api_refuse(r->e, "logprobs", "unsupported_parameter",
                          "'echo' with 'logprobs' is not supported: probabilities of prompt tokens "
                          "are not available");
    if (p->top_logprobs && !p->want_logprobs)
        return api_refuse(r->e, "top_logprobs", "invalid_value",
                          "'top_logprobs' needs 'logprobs' to be true");
    if (r->hide_tools)
        b->req.tools_json = (struct str){NULL, 0};
    if (b->n_prompts > 1 && (uint64_t)b->n_prompts * p->n > LIMIT_REQUEST_ANSWERS)
        return api_refuse(r->e, "n", "invalid_value",
                          "%u prompts with 'n' of %u make %llu answers; one request may have %u",
                          b->n_prompts, p->n, (unsigned long long)b->n_prompts * p->n,
                          LIMIT_REQUEST_ANSWERS);
    struct err err = ERR_INIT;
    b->is_seed_drawn = !p->has_seed;
    if (!p->has_seed && draw_seed(p, &err) < 0) {
        api_error_from(r->e, &err);
        return -err.code;
    }
    if (gen_request_check(&b->req, &err) < 0) {
        char name[64];
        api_param_of(err.msg, name);
        return api_refuse_err(r->e, name, &err);
    }
    return 0;
}

void api_param_of(const char *sentence, char ret[64])
{
    size_t n = strcspn(sentence, " ['");
    snprintf(ret, 64, "%.*s", (int)MIN_OF(n, (size_t)63), sentence);
    if (!row_find(ret, BOTH))
        ret[0] = '\0';
}

void api_params_default(struct gen_params *p, const struct model_settings *s)
{
#define DEFAULT(field)                                                                             \
    do {                                                                                           \
        if (s->has_##field)                                                                        \
            p->field = s->field;                                                                   \
    } while (0)
    DEFAULT(temperature);
    DEFAULT(top_p);
    DEFAULT(min_p);
    DEFAULT(top_k);
    DEFAULT(repetition_penalty);
    DEFAULT(presence_penalty);
    DEFAULT(frequency_penalty);
    DEFAULT(max_tokens);
    DEFAULT(seed);
#undef DEFAULT
    p->has_seed |= s->has_seed;
}

void api_params_put(const struct gen_params *p, struct buf *out)
{
    const struct {
        const char *name;
        float v;
    } nums[] = {{"temperature", p->temperature},
                {"top_p", p->top_p},
                {"min_p", p->min_p},
                {"repetition_penalty", p->repetition_penalty},
                {"presence_penalty", p->presence_penalty},
                {"frequency_penalty", p->frequency_penalty}};
    for (size_t i = 0; i < ARRAY_LEN(nums); i++) {
        buf_printf(out, "%s\"%s\":", i ? "," : "{", nums[i].name);
        json_put_float(out, nums[i].v);
    }
    buf_printf(out, ",\"top_k\":%u,\"max_tokens\":", p->top_k);
    if (p->max_tokens)
        buf_printf(out, "%u", p->max_tokens);
    else
        buf_append_str(out, "null");
    buf_append_str(out, ",\"seed\":");
    if (p->has_seed)
        buf_printf(out, "%lld", (long long)p->seed);
    else
        buf_append_str(out, "null");
    buf_append_char(out, '}');
}

int api_json_parse(struct str text, bool may_be_empty, json_t **ret, struct api_error *e)
{
    struct err err = ERR_INIT;
    json_t *v = NULL;
    if (text.len == 0 && !may_be_empty)
        return api_refuse(e, NULL, "invalid_json",
                          "the request has no body; it must be a JSON object");
    if (text.len == 0) {
        v = json_object();
    } else if (json_parse(text, &v, &err) < 0) {
        api_refuse_err(e, NULL, &err);
        e->code = "invalid_json";
        return -err.code;
    }
    if (!json_is_object(v)) {
        int rc = api_refuse(e, NULL, "invalid_json",
                            "the request's body must be a JSON object, not %s", json_kind(v));
        json_decref(v);
        return rc;
    }
    *ret = v;
    return 0;
}

/* The model's name, and what is declared of it, before anything that may overrule it. */
static int read_defaults(struct reader *r, const json_t *root, api_settings_fn fn, void *ctx)
{
    const json_t *v = json_object_get(root, "model");
    struct model_settings s;
    struct err err = ERR_INIT;
    if (json_is_null(v) || !v)
        return 0;
    int rc = read_model(r, "model", v);
    if (rc < 0 || !fn)
        return rc;
    model_settings_init(&s);
    if (fn(ctx, r->b->model, &s, &err) < 0)
        api_error_from(r->e, &err);
    else
        api_params_default(&r->b->req.params, &s);
    model_settings_release(&s);
    return -err.code;
}

static int read_rows(struct reader *r, const json_t *root)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)root, name, v)
    {
        const struct row *row = row_find(name, r->b->dialect);
        int rc = 0;
        if (!row)
            rc = refuse_unknown(r, name);
        else if (!json_is_null(v))
            rc = read_row(r, row, v);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int api_body_parse(struct api_body *b, enum api_dialect dialect, struct str text,
                   api_settings_fn fn, void *ctx, struct api_error *e)
{
    *b = (struct api_body){.dialect = dialect, .n_prompts = 1};
    json_t *root = NULL;
    int rc = api_json_parse(text, false, &root, e);
    if (rc < 0)
        return rc;
    gen_request_init(&b->req);
    b->req.input = dialect == API_CHAT ? GEN_INPUT_CHAT : GEN_INPUT_TEXT;
    struct reader r = {.b = b, .e = e};
    rc = read_defaults(&r, root, fn, ctx);
    if (rc == 0)
        rc = read_rows(&r, root);
    if (rc == 0)
        rc = check_whole(&r);
    json_decref(root);
    if (rc < 0)
        api_body_release(b);
    return rc;
}

void api_body_release(struct api_body *b)
{
    gen_request_release(&b->req);
    b->model = NULL;
    b->prompts = NULL;
}
