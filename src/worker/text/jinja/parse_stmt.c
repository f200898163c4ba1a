/* SPDX-License-Identifier: Apache-2.0 */
/* Statements: the body of a template and its tags to tree.  Called by jinja_compile only. */
#include <stdarg.h>
#include <stdio.h>

#include "worker/text/jinja/ast.h"

bool parser_fail(struct parser *p, uint32_t line, const char *fmt, ...)
{
    char msg[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    err_set(p->err, E_FORMAT, "line %u: %s", line, msg);
    return false;
}

struct node *parser_node(struct parser *p, enum nkind kind, uint32_t line)
{
    struct node *n = arena_try_alloc(&p->j->arena, sizeof(*n), p->err);
    if (n) {
        n->kind = kind;
        n->line = line;
        n->height = 1;
    }
    return n;
}

bool parser_push(struct parser *p, struct nodes *list, struct node *n)
{
    if (!n)
        return false;
    if ((list->n & (list->n - 1)) == 0) { /* full at powers of two */
        struct node **v = arena_try_alloc(
            &p->j->arena, (list->n ? (size_t)list->n * 2 : 1) * sizeof(struct node *), p->err);
        if (!v)
            return false;
        if (list->n)
            memcpy(v, list->v, list->n * sizeof(struct node *));
        list->v = v;
    }
    list->v[list->n++] = n;
    return true;
}

static uint32_t list_height(struct nodes l)
{
    uint32_t h = 0;
    for (uint32_t i = 0; i < l.n; i++)
        h = MAX_OF(h, l.v[i]->height);
    return h;
}

bool parser_seal(struct parser *p, struct node *n)
{
    const struct node *one[] = {n->a, n->b, n->c, n->dyn_args, n->dyn_kwargs};
    uint32_t h = MAX_OF(list_height(n->list), list_height(n->list2));
    for (size_t i = 0; i < ARRAY_LEN(one); i++)
        if (one[i])
            h = MAX_OF(h, one[i]->height);
    for (uint32_t i = 0; i < n->n_kw; i++)
        h = MAX_OF(h, n->kw[i].value->height);
    if (h + 1 > JINJA_TREE_HEIGHT) {
        err_set(p->err, E_LIMIT, "line %u: an expression is longer than %u operations in a chain",
                n->line, JINJA_TREE_HEIGHT);
        return false;
    }
    n->height = (uint16_t)(h + 1);
    return true;
}

bool parser_expect(struct parser *p, enum tok t)
{
    const struct token *at = peek(p);
    if (at->type == t) {
        p->pos++;
        return true;
    }
    if (at->type == T_NAME)
        return parser_fail(p, at->line, "expected '%s', got '%.*s'", tok_name(t),
                           STR_ARG(at->text));
    return parser_fail(p, at->line, "expected '%s', got '%s'", tok_name(t), tok_name(at->type));
}

bool parser_is_name(const struct parser *p, size_t ahead, const char *name)
{
    for (size_t i = 0; i < ahead; i++)
        if (p->toks[p->pos + i].type == T_EOF)
            return false;
    const struct token *t = &p->toks[p->pos + ahead];
    return t->type == T_NAME && str_is(t->text, name);
}

bool parser_skip_name(struct parser *p, const char *name)
{
    if (!parser_is_name(p, 0, name))
        return false;
    p->pos++;
    return true;
}

bool parser_enter(struct parser *p)
{
    if (++p->depth <= 3 * LIMIT_TEMPLATE_DEPTH) /* an expression in brackets enters three times */
        return true;
    err_set(p->err, E_LIMIT, "line %u: nested deeper than %u levels", peek(p)->line,
            LIMIT_TEMPLATE_DEPTH);
    return false;
}

/* Which end tags a body may meet, as names separated by '|'. */
static bool at_end_tag(const struct parser *p, const char *ends)
{
    const struct token *t = peek(p);
    if (t->type != T_NAME || !ends)
        return false;
    size_t n = strlen(ends);
    for (size_t i = 0; i < n;) {
        size_t k = strcspn(ends + i, "|");
        if (k == t->text.len && memcmp(ends + i, t->text.p, k) == 0)
            return true;
        i += k + 1;
    }
    return false;
}

static struct node *statement(struct parser *p);

/* Until an end tag, whose name is left as the current token; ends == NULL: until the end of the
 * template. */
static bool body(struct parser *p, const char *ends, struct nodes *out)
{
    for (;;) {
        const struct token *t = peek(p);
        if (t->type == T_EOF) {
            if (!ends)
                return true;
            return parser_fail(p, t->line,
                               "unexpected end of template: one of the tags '%s' is missing", ends);
        }
        p->pos++;
        struct node *n;
        if (t->type == T_DATA) {
            n = parser_node(p, N_TEXT, t->line);
            struct jstr *s = n ? jinja_const_str(p->j, t->text, p->err) : NULL;
            if (!s)
                return false;
            n->v = value_str(s);
        } else if (t->type == T_VAR_BEGIN) {
            n = parser_node(p, N_PRINT, t->line);
            if (!n || !parser_push(p, &n->list, parse_tuple(p, 0)) || !parser_expect(p, T_VAR_END))
                return false;
        } else {
            if (at_end_tag(p, ends))
                return true;
            n = statement(p);
            if (!n || !parser_expect(p, T_BLOCK_END))
                return false;
        }
        if (!parser_push(p, out, n))
            return false;
    }
}

/* After a tag's own words: "%}", the body and its end tag's name, which is taken unless keep_end.
 */
static bool block(struct parser *p, const char *ends, struct nodes *out, bool keep_end)
{
    if (peek(p)->type == T_COLON)
        p->pos++;
    if (!parser_expect(p, T_BLOCK_END) || !body(p, ends, out))
        return false;
    if (!keep_end)
        p->pos++;
    return true;
}

/* The body of something that becomes a function of its own: a break inside cannot leave it. */
static bool function_block(struct parser *p, const char *ends, struct nodes *out)
{
    uint32_t n_loops = p->n_loops;
    p->n_loops = 0;
    bool ok = block(p, ends, out, false);
    p->n_loops = n_loops;
    return ok;
}

static bool parse_set(struct parser *p, struct node *n)
{
    if (!(n->a = parse_target(p, 0, true)))
        return false;
    if (peek(p)->type == T_ASSIGN) {
        p->pos++;
        return (n->b = parse_tuple(p, 0)) != NULL;
    }
    n->kind = N_SETBLOCK;
    if (peek(p)->type == T_PIPE && !(n->b = parse_filter_chain(p, NULL, false)))
        return false;
    return block(p, "endset", &n->list, false);
}

static bool parse_for(struct parser *p, struct node *n)
{
    if (!(n->a = parse_target(p, TUPLE_END_IN, false)))
        return false;
    if (!parser_skip_name(p, "in"))
        return parser_fail(p, n->line, "expected 'in' in a for tag");
    if (!(n->b = parse_tuple(p, TUPLE_NO_COND | TUPLE_END_RECURSIVE)))
        return false;
    if (parser_skip_name(p, "if") && !(n->c = parse_expr(p, true)))
        return false;
    n->flag = parser_skip_name(p, "recursive");
    uint32_t n_loops = p->n_loops;
    p->n_loops = n->flag ? 1 : n_loops + 1;
    bool ok = block(p, "endfor|else", &n->list, true);
    p->n_loops = n->flag ? 0 : n_loops;
    if (ok && parser_skip_name(p, "else"))
        ok = block(p, "endfor", &n->list2, false);
    else if (ok)
        p->pos++;
    p->n_loops = n_loops;
    return ok;
}

/* elif branches are nodes of their own in list2, the last one (with no test) is the else branch. */
static bool parse_if(struct parser *p, struct node *n)
{
    struct node *at = n;
    for (;;) {
        if (!(at->a = parse_tuple(p, TUPLE_NO_COND)) ||
            !block(p, "elif|else|endif", &at->list, true))
            return false;
        const struct token *end = &p->toks[p->pos++];
        if (str_is(end->text, "endif"))
            return true;
        struct node *next = parser_node(p, N_IF, end->line);
        if (!parser_push(p, &n->list2, next))
            return false;
        at = next;
        if (str_is(end->text, "else"))
            return block(p, "endif", &at->list, false);
    }
}

static bool parse_with(struct parser *p, struct node *n)
{
    while (peek(p)->type != T_BLOCK_END) {
        if (n->list2.n && !parser_expect(p, T_COMMA))
            return false;
        struct node *pair = parser_node(p, N_SET, peek(p)->line);
        if (!pair || !(pair->a = parse_target(p, 0, false)) || !parser_expect(p, T_ASSIGN) ||
            !(pair->b = parse_expr(p, true)) || !parser_push(p, &n->list2, pair))
            return false;
    }
    return block(p, "endwith", &n->list, false);
}

/* "(a, b=1)": targets into list, defaults of the last ones into list2. */
static bool signature(struct parser *p, struct node *n)
{
    if (!parser_expect(p, T_LPAREN))
        return false;
    while (peek(p)->type != T_RPAREN) {
        if (n->list.n && !parser_expect(p, T_COMMA))
            return false;
        if (peek(p)->type != T_NAME)
            return parser_expect(p, T_NAME);
        struct node *arg = parser_node(p, N_NAME, peek(p)->line);
        if (!arg || !(arg->name = jinja_name(p->j, peek(p)->text, p->err)))
            return false;
        p->pos++;
        arg->ctx = CTX_PARAM;
        for (uint32_t i = 0; i < n->list.n && i < 256; i++)
            if (n->list.v[i]->name == arg->name)
                return parser_fail(p, n->line, "parameter '%.*s' appears twice",
                                   STR_ARG(arg->name->text));
        if (peek(p)->type == T_ASSIGN) {
            p->pos++;
            if (!parser_push(p, &n->list2, parse_expr(p, true)))
                return false;
        } else if (n->list2.n) {
            return parser_fail(p, n->line, "non-default argument follows default argument");
        }
        if (!parser_push(p, &n->list, arg))
            return false;
    }
    return parser_expect(p, T_RPAREN);
}

/* A macro's body hangs on n->a (a node of kind N_SCOPED), its parameters on n->list and n->list2.
 */
static bool macro_body(struct parser *p, struct node *n, const char *end)
{
    n->a = parser_node(p, N_SCOPED, n->line);
    return n->a && function_block(p, end, &n->a->list);
}

static bool parse_macro(struct parser *p, struct node *n)
{
    if (peek(p)->type != T_NAME)
        return parser_expect(p, T_NAME);
    struct str s = p->toks[p->pos++].text;
    n->name = jinja_name(p->j, s, p->err);
    return n->name && signature(p, n) && macro_body(p, n, "endmacro");
}

static bool parse_call_block(struct parser *p, struct node *n)
{
    if (peek(p)->type == T_LPAREN && !signature(p, n))
        return false;
    if (!(n->b = parse_expr(p, true)))
        return false;
    if (n->b->kind != N_CALL)
        return parser_fail(p, n->line, "expected call");
    return macro_body(p, n, "endcall");
}

static bool parse_filter_block(struct parser *p, struct node *n)
{
    return (n->b = parse_filter_chain(p, NULL, true)) && block(p, "endfilter", &n->list, false);
}

static bool parse_print(struct parser *p, struct node *n)
{
    while (peek(p)->type != T_BLOCK_END) {
        if (n->list.n && !parser_expect(p, T_COMMA))
            return false;
        if (!parser_push(p, &n->list, parse_expr(p, true)))
            return false;
    }
    return true;
}

static bool parse_block(struct parser *p, struct node *n)
{
    if (peek(p)->type != T_NAME)
        return parser_expect(p, T_NAME);
    n->name = jinja_name(p->j, p->toks[p->pos++].text, p->err);
    n->flag = parser_skip_name(p, "scoped");
    if (parser_is_name(p, 0, "required"))
        return parser_fail(p, n->line,
                           "required blocks need template inheritance, which is not supported");
    if (!n->name || !function_block(p, "endblock", &n->list))
        return false;
    if (peek(p)->type == T_NAME && str_eq(peek(p)->text, n->name->text))
        p->pos++;
    return true;
}

static bool parse_generation(struct parser *p, struct node *n)
{
    return function_block(p, "endgeneration", &n->list);
}

/* Only what chat templates have: turning escaping off, as it is. */
static bool parse_autoescape(struct parser *p, struct node *n)
{
    struct node *v = parse_expr(p, true);
    if (!v)
        return false;
    if (v->kind != N_CONST || v->v.type != V_BOOL || v->v.b)
        return parser_fail(p, n->line, "autoescape other than 'false' is not supported");
    return block(p, "endautoescape", &n->list, false);
}

static bool parse_jump(struct parser *p, struct node *n)
{
    return p->n_loops ||
           parser_fail(p, n->line, "'%s' outside loop", n->kind == N_BREAK ? "break" : "continue");
}

static struct node *statement(struct parser *p)
{
    static const struct {
        const char *tag;
        enum nkind kind;
        bool (*parse)(struct parser *p, struct node *n);
    } TAGS[] = {
        {"if", N_IF, parse_if},
        {"for", N_FOR, parse_for},
        {"set", N_SET, parse_set},
        {"macro", N_MACRO, parse_macro},
        {"call", N_CALLBLOCK, parse_call_block},
        {"filter", N_FILTERBLOCK, parse_filter_block},
        {"with", N_WITH, parse_with},
        {"print", N_PRINT, parse_print},
        {"block", N_BLOCK, parse_block},
        {"generation", N_SCOPED, parse_generation},
        {"autoescape", N_SCOPED, parse_autoescape},
        {"break", N_BREAK, parse_jump},
        {"continue", N_CONTINUE, parse_jump},
    };
    const struct token *t = peek(p);
    struct node *n = NULL;
    if (!parser_enter(p))
        return NULL;
    if (t->type != T_NAME) {
        parser_fail(p, t->line, "tag name expected");
        return NULL;
    }
    p->pos++;
    for (size_t i = 0; i < ARRAY_LEN(TAGS); i++) {
        if (!str_is(t->text, TAGS[i].tag))
            continue;
        n = parser_node(p, TAGS[i].kind, t->line);
        if (!n || !TAGS[i].parse(p, n))
            return NULL;
        p->depth--;
        return n;
    }
    if (str_is(t->text, "include") || str_is(t->text, "import") || str_is(t->text, "from") ||
        str_is(t->text, "extends"))
        parser_fail(p, t->line, "'%.*s' needs other templates, and a chat template stands alone",
                    STR_ARG(t->text));
    else
        parser_fail(p, t->line, "unknown tag '%.*s'", STR_ARG(t->text));
    return NULL;
}

int jinja_parse(struct jinja *j, const struct token *toks, struct err *err)
{
    struct parser p = {.j = j, .toks = toks, .err = err};
    return body(&p, NULL, &j->body) ? 0 : -err->code;
}
