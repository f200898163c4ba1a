/* SPDX-License-Identifier: Apache-2.0 */
/* Implements jinja.h: a template from its source to a program, and a program to text. */
#include "lib/base/mem.h"
#include "worker/text/jinja/runtime.h"

struct name *jinja_name(struct jinja *j, struct str text, struct err *err)
{
    uint32_t id = map_get(&j->name_map, text);
    if (id != MAP_NONE)
        return j->names[id];
    if (j->n_names == j->cap_names) {
        uint32_t cap = j->cap_names ? j->cap_names * 2 : 64;
        struct name **v = arena_try_alloc(&j->arena, cap * sizeof(struct name *), err);
        if (!v)
            return NULL;
        if (j->n_names)
            memcpy(v, j->names, j->n_names * sizeof(struct name *));
        j->names = v;
        j->cap_names = cap;
    }
    struct name *n = arena_try_alloc(&j->arena, sizeof(*n), err);
    char *copy = n ? arena_try_dup(&j->arena, text.p, text.len, err) : NULL;
    if (!copy)
        return NULL;
    n->text = (struct str){copy, text.len};
    n->id = j->n_names;
    n->s = jinja_const_str(j, n->text, err);
    uint32_t old;
    if (!n->s || map_try_put(&j->name_map, n->text, n->id, &old, err) < 0)
        return NULL;
    j->names[j->n_names++] = n;
    return n;
}

struct jstr *jinja_const_str(struct jinja *j, struct str text, struct err *err)
{
    struct jstr *s = arena_try_alloc(&j->arena, sizeof(*s), err);
    if (s)
        *s = (struct jstr){
            .p = text.p ? text.p : "", .len = text.len, .n_chars = char_count(text.p, text.len)};
    return s;
}

static int compile(struct jinja *j, struct str source, struct err *err)
{
    struct token *toks;
    size_t n;
    TRY(jinja_lex(j, source, &toks, &n, err));
    TRY(jinja_parse(j, toks, err));
    return jinja_resolve(j, err);
}

int jinja_compile(struct str source, struct jinja **ret_jinja, struct err *err)
{
    if (source.len > LIMIT_TEMPLATE_BYTES)
        return err_set(err, E_LIMIT, "the template has %zu bytes; the limit is %u", source.len,
                       LIMIT_TEMPLATE_BYTES);
    struct jinja *j = mem_try_alloc(1, sizeof(*j), err);
    if (!j)
        return -err->code;
    arena_init(&j->arena, LIMIT_TEMPLATE_MEMORY_BYTES);
    map_init(&j->name_map);
    int rc = compile(j, source, err);
    if (rc < 0) {
        jinja_free(j);
        return err_wrap(err, "chat template");
    }
    *ret_jinja = j;
    return 0;
}

void jinja_free(struct jinja *j)
{
    if (!j)
        return;
    map_release(&j->name_map);
    arena_release(&j->arena);
    mem_free(j);
}

bool jinja_uses(const struct jinja *j, const char *name)
{
    uint32_t id = map_get(&j->name_map, str_from(name));
    return id != MAP_NONE && j->names[id]->is_read;
}

void jinja_output_init(struct jinja_output *o)
{
    *o = (struct jinja_output){.runs = NULL};
    buf_init(&o->text, LIMIT_TEMPLATE_OUTPUT_BYTES);
}

void jinja_output_release(struct jinja_output *o)
{
    buf_release(&o->text);
    mem_free(o->runs);
    jinja_output_init(o);
}

bool jinja_is_input_key(const char *keys, struct str name)
{
    while (keys && *keys) {
        size_t n = strcspn(keys, ",");
        if (n == name.len && memcmp(keys, name.p, n) == 0)
            return true;
        keys += n + (keys[n] == ',');
    }
    return false;
}

static int hand_over(const struct sb *b, struct jinja_output *out, struct err *err)
{
    buf_clear(&out->text);
    out->n_runs = 0;
    if (b->len)
        buf_append(&out->text, b->p, b->len);
    TRY(buf_status(&out->text, "the template's output", err));
    if (b->n_marks > out->cap_runs) {
        struct jinja_run *v = mem_try_resize(out->runs, b->n_marks, sizeof(*v), err);
        if (!v)
            return -err->code;
        out->runs = v;
        out->cap_runs = b->n_marks;
    }
    size_t from = 0;
    for (uint32_t i = 0; i < b->n_marks; i++) {
        out->runs[i] = (struct jinja_run){b->marks[i].end - from, b->marks[i].is_input};
        from = b->marks[i].end;
    }
    out->n_runs = b->n_marks;
    return 0;
}

static int run(struct rt *rt, struct jinja_output *out)
{
    const struct jinja *j = rt->j;
    struct sb b;
    int jump = 0;
    rt->context = rt_alloc(rt, j->n_names + 1, sizeof(*rt->context));
    rt->is_looked_up = rt_alloc(rt, j->n_names + 1, sizeof(*rt->is_looked_up));
    struct frame *root = frame_new(rt, j->root, NULL);
    if (!rt->context || !rt->is_looked_up || !root)
        return -rt->err->code;
    sb_init(&b, rt);
    rt->out = &b;
    TRY(frame_enter(rt, root));
    rt->root = root;
    TRY(exec_body(rt, root, j->body, &jump));
    if (b.failed)
        return b.failed;
    return hand_over(&b, out, rt->err);
}

int jinja_render(const struct jinja *j, const struct jinja_options *opt, struct jinja_output *out,
                 struct err *err)
{
    struct rt rt = {.j = j, .opt = opt, .err = err, .line = 1, .filter_in = VALUE_NONE};
    if (opt->context && !json_is_object(opt->context))
        return err_set(err, E_INVALID, "a template's context must be a JSON object");
    arena_init(&rt.arena, LIMIT_TEMPLATE_MEMORY_BYTES);
    int rc = run(&rt, out);
    arena_release(&rt.arena);
    return rc;
}
