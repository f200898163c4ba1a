/* SPDX-License-Identifier: Apache-2.0 */
/* docs/API.md has every row of the API's tables, and nothing else between its marks.
 * `test_api_doc --write` puts them there. */
#include "tests/support/cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api/openai/body.h"
#include "lib/base/limits.h"

#define DOC "docs/API.md"

static const struct {
    const char *method, *path, *scope, *doc;
} routes[] = {
#define ROUTE(method, path, scope, handler, doc) {method, path, #scope, doc},
#include "daemon/api/route.def"
#undef ROUTE
};

static const struct {
    const char *name, *other, *track, *kind, *what;
} flags[] = {
#define INT(l, s, track, setting)       {l, s, #track, "a whole number", setting},
#define NUM(l, s, track, setting)       {l, s, #track, "a number", setting},
#define WORD(l, s, track, setting)      {l, s, #track, "a word", setting},
#define MODEL(l, s, track, setting)     {l, s, #track, "a model's name", setting},
#define ON(l, s, track, setting)        {l, s, #track, "a switch: true", setting},
#define OFF(l, s, track, setting)       {l, s, #track, "a switch: false", setting},
#define SPEC(l, s, track)                                                                          \
    {l, s, #track, "JSON", "`method`, `model` and `num_speculative_tokens`, the settings above"},
#define PLAIN(l, s, track, why)         {l, s, #track, "", why},
#define ONLY(l, s, track, neutral, why) {l, s, #track, "only " neutral, why},
#include "daemon/api/flag.def"
};

/* Text of a cell: a bar would end it. */
static void put_cell(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (*s == '|')
            buf_append_char(b, '\\');
        buf_append_char(b, *s);
    }
}

static void put_routes(struct buf *b)
{
    buf_append_str(b, "| | route | what it does | scope |\n|---|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const char *scope = strcmp(routes[i].scope, "PUBLIC") == 0  ? ""
                            : strcmp(routes[i].scope, "INFER") == 0 ? "infer"
                                                                    : "manage";
        buf_printf(b, "| %s | `%s` | ", routes[i].method, routes[i].path);
        put_cell(b, routes[i].doc);
        buf_printf(b, " | %s |\n", scope);
    }
}

static const char *where(unsigned dialects)
{
    return dialects == API_CHAT ? "chat" : dialects == API_COMPLETION ? "completions" : "";
}

static bool is_kind(const struct api_param *p, const char *kind)
{
    return strcmp(p->kind, kind) == 0;
}

static void put_params(struct buf *b)
{
    buf_append_str(b, "| parameter | only in | range | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < api_param_count(); i++) {
        struct api_param p = api_param_at(i);
        if (is_kind(&p, "ignored") || is_kind(&p, "refused"))
            continue;
        buf_printf(b, "| `%s` | %s | ", p.name, where(p.dialects));
        if (is_kind(&p, "number") || is_kind(&p, "integer"))
            buf_printf(b, "%g to %.15g", p.min, p.max);
        else if (is_kind(&p, "boolean"))
            buf_append_str(b, "true or false");
        buf_append_str(b, " | ");
        put_cell(b, p.doc);
        buf_append_str(b, " |\n");
    }
}

static void put_ignored(struct buf *b)
{
    buf_append_str(b, "| parameter | only in | why |\n|---|---|---|\n");
    for (size_t i = 0; i < api_param_count(); i++) {
        struct api_param p = api_param_at(i);
        if (!is_kind(&p, "ignored"))
            continue;
        buf_printf(b, "| `%s` | %s | ", p.name, where(p.dialects));
        put_cell(b, p.doc);
        buf_append_str(b, " |\n");
    }
}

static void put_refused(struct buf *b)
{
    buf_append_str(b, "| parameter | only in | may be | why |\n|---|---|---|---|\n");
    for (size_t i = 0; i < api_param_count(); i++) {
        struct api_param p = api_param_at(i);
        if (!is_kind(&p, "refused"))
            continue;
        buf_printf(b, "| `%s` | %s | ", p.name, where(p.dialects));
        for (const char *s = p.neutral; *s;) {
            size_t n = strcspn(s, "|");
            buf_printf(b, "%s`%.*s`", s == p.neutral ? "" : ", ", (int)n, s);
            s += n + (s[n] == '|');
        }
        buf_append_str(b, " | ");
        put_cell(b, p.doc);
        buf_append_str(b, " |\n");
    }
}

static void put_flags(struct buf *b)
{
    buf_append_str(b, "| flag | engine | value | setting, or why |\n|---|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        bool is_setting = flags[i].kind[0] == 'a';
        buf_printf(b, "| `%s`", flags[i].name);
        if (flags[i].other[0])
            buf_printf(b, ", `%s`", flags[i].other);
        buf_printf(b, is_setting ? " | %s | %s | `%s` |\n" : " | %s | %s | %s |\n",
                   strcmp(flags[i].track, "LLAMA") == 0 ? "llama.cpp" : "vLLM", flags[i].kind,
                   flags[i].what);
    }
}

static const struct {
    const char *name;
    void (*put)(struct buf *b);
} sections[] = {{"routes", put_routes},
                {"params", put_params},
                {"ignored", put_ignored},
                {"refused", put_refused},
                {"flags", put_flags}};

static void doc_read(struct buf *b)
{
    FILE *f = fopen(DOC, "re");
    assert_non_null(f);
    char part[4096];
    size_t n;
    while ((n = fread(part, 1, sizeof(part), f)) > 0)
        buf_append(b, part, n);
    fclose(f);
}

/* The document with every section as the tables have it. */
static void doc_make(const struct buf *old, struct buf *new)
{
    const char *at = buf_str(old);
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        char begin[64], end[64];
        snprintf(begin, sizeof(begin), "<!-- %s -->\n", sections[i].name);
        snprintf(end, sizeof(end), "<!-- /%s -->\n", sections[i].name);
        const char *from = strstr(at, begin), *to = strstr(at, end);
        if (!from || !to)
            fail_msg(DOC " has no section %s", sections[i].name);
        buf_append(new, at, (size_t)(from - at) + strlen(begin));
        sections[i].put(new);
        at = to;
    }
    buf_append_str(new, at);
}

static void doc_has_what_the_tables_have(void **state)
{
    (void)state;
    struct buf old, new;
    buf_init(&old, 1 << 20);
    buf_init(&new, 1 << 20);
    doc_read(&old);
    doc_make(&old, &new);
    if (strcmp(buf_str(&old), buf_str(&new)) != 0)
        fail_msg(DOC " is behind the tables: run %s --write", "test_api_doc");
    buf_release(&old);
    buf_release(&new);
}

static int doc_write(void)
{
    struct buf old, new;
    buf_init(&old, 1 << 20);
    buf_init(&new, 1 << 20);
    doc_read(&old);
    doc_make(&old, &new);
    FILE *f = fopen(DOC, "we");
    bool ok = f && fwrite(new.data, 1, new.len, f) == new.len;
    ok = f && fclose(f) == 0 && ok;
    buf_release(&old);
    buf_release(&new);
    return !ok;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--write") == 0)
        return doc_write();
    const struct CMUnitTest tests[] = {cmocka_unit_test(doc_has_what_the_tables_have)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
