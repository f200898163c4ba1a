/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions: tokens to tree, by recursive descent along Jinja's precedence.
 *
 * Every function returns NULL after a failure, with the parser's err filled.  Called by
 * parse_stmt.c. */
#include "worker/text/jinja/ast.h"

static bool is_tok(const struct parser *p, enum tok t)
{
    return peek(p)->type == t;
}

static bool skip_tok(struct parser *p, enum tok t)
{
    if (!is_tok(p, t))
        return false;
    p->pos++;
    return true;
}

static struct node *seal(struct parser *p, struct node *n)
{
    return parser_seal(p, n) ? n : NULL;
}

static struct node *unary(struct parser *p, enum nkind kind, struct node *a, uint32_t line)
{
    struct node *n = a ? parser_node(p, kind, line) : NULL;
    if (!n)
        return NULL;
    n->a = a;
    return seal(p, n);
}

static struct node *binary(struct parser *p, enum nkind kind, enum tok op, struct node *a,
                           struct node *b, uint32_t line)
{
    struct node *n = a && b ? parser_node(p, kind, line) : NULL;
    if (!n)
        return NULL;
    n->op = op;
    n->a = a;
    n->b = b;
    return seal(p, n);
}

static struct node *const_node(struct parser *p, struct value v, uint32_t line)
{
    struct node *n = parser_node(p, N_CONST, line);
    if (n)
        n->v = v;
    return n;
}

static struct node *name_or_keyword(struct parser *p)
{
    const struct token *t = &p->toks[p->pos++];
    if (str_is(t->text, "true") || str_is(t->text, "True"))
        return const_node(p, value_bool(true), t->line);
    if (str_is(t->text, "false") || str_is(t->text, "False"))
        return const_node(p, value_bool(false), t->line);
    if (str_is(t->text, "none") || str_is(t->text, "None"))
        return const_node(p, VALUE_NONE, t->line);
    struct node *n = parser_node(p, N_NAME, t->line);
    if (!n || !(n->name = jinja_name(p->j, t->text, p->err)))
        return NULL;
    return n;
}

/* Adjacent string literals are one. */
static struct node *string_literal(struct parser *p)
{
    const struct token *first = peek(p);
    size_t len = 0, from = p->pos;
    while (is_tok(p, T_STRING))
        len += p->toks[p->pos++].text.len;
    struct str s = first->text;
    if (p->pos > from + 1) {
        char *joined = arena_try_alloc(&p->j->arena, len + 1, p->err);
        if (!joined)
            return NULL;
        s = (struct str){joined, 0};
        for (size_t i = from; i < p->pos; i++) {
            memcpy(joined + s.len, p->toks[i].text.p, p->toks[i].text.len);
            s.len += p->toks[i].text.len;
        }
    }
    struct jstr *v = jinja_const_str(p->j, s, p->err);
    return v ? const_node(p, value_str(v), first->line) : NULL;
}

static struct node *list_literal(struct parser *p)
{
    struct node *n = parser_node(p, N_LIST, peek(p)->line);
    p->pos++;
    while (n && !is_tok(p, T_RBRACKET)) {
        if (n->list.n && !parser_expect(p, T_COMMA))
            return NULL;
        if (is_tok(p, T_RBRACKET))
            break;
        if (!parser_push(p, &n->list, parse_expr(p, true)))
            return NULL;
    }
    return n && parser_expect(p, T_RBRACKET) ? seal(p, n) : NULL;
}

static struct node *dict_literal(struct parser *p)
{
    struct node *n = parser_node(p, N_DICT, peek(p)->line);
    p->pos++;
    while (n && !is_tok(p, T_RBRACE)) {
        if (n->list.n && !parser_expect(p, T_COMMA))
            return NULL;
        if (is_tok(p, T_RBRACE))
            break;
        if (!parser_push(p, &n->list, parse_expr(p, true)) || !parser_expect(p, T_COLON) ||
            !parser_push(p, &n->list2, parse_expr(p, true)))
            return NULL;
    }
    return n && parser_expect(p, T_RBRACE) ? seal(p, n) : NULL;
}

static struct node *primary(struct parser *p)
{
    const struct token *t = peek(p);
    struct node *n;
    switch (t->type) {
    case T_NAME: return name_or_keyword(p);
    case T_STRING: return string_literal(p);
    case T_INT: p->pos++; return const_node(p, value_int(t->i), t->line);
    case T_FLOAT: p->pos++; return const_node(p, value_float(t->f), t->line);
    case T_LPAREN:
        p->pos++;
        n = parse_tuple(p, TUPLE_PARENS);
        return n && parser_expect(p, T_RPAREN) ? n : NULL;
    case T_LBRACKET: return list_literal(p);
    case T_LBRACE: return dict_literal(p);
    default: parser_fail(p, t->line, "unexpected '%s'", tok_name(t->type)); return NULL;
    }
}

/* Inside [ ]: an expression or start:stop:step. */
static struct node *subscript(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *part[3] = {NULL, NULL, NULL};
    if (!is_tok(p, T_COLON)) {
        part[0] = parse_expr(p, true);
        if (!part[0] || !is_tok(p, T_COLON))
            return part[0];
    }
    p->pos++;
    for (int i = 1; i < 3; i++) {
        if (!is_tok(p, T_COLON) && !is_tok(p, T_RBRACKET) && !is_tok(p, T_COMMA) &&
            !(part[i] = parse_expr(p, true)))
            return NULL;
        if (i == 1 && !skip_tok(p, T_COLON))
            break;
    }
    struct node *n = parser_node(p, N_SLICE, line);
    if (!n)
        return NULL;
    n->a = part[0];
    n->b = part[1];
    n->c = part[2];
    return seal(p, n);
}

static struct node *attribute(struct parser *p, struct node *obj)
{
    const struct token *t = &p->toks[++p->pos];
    if (t->type == T_NAME) {
        struct node *n = parser_node(p, N_ATTR, t->line);
        if (!n || !(n->name = jinja_name(p->j, t->text, p->err)))
            return NULL;
        p->pos++;
        n->a = obj;
        return seal(p, n);
    }
    if (t->type != T_INT) {
        parser_fail(p, t->line, "expected name or number after '.'");
        return NULL;
    }
    p->pos++;
    return binary(p, N_ITEM, T_DOT, obj, const_node(p, value_int(t->i), t->line), t->line);
}

static struct node *item(struct parser *p, struct node *obj)
{
    uint32_t line = peek(p)->line;
    struct node *args = parser_node(p, N_TUPLE, line);
    p->pos++;
    while (args && !is_tok(p, T_RBRACKET)) {
        if (args->list.n && !parser_expect(p, T_COMMA))
            return NULL;
        if (!parser_push(p, &args->list, subscript(p)))
            return NULL;
    }
    if (!args || !parser_expect(p, T_RBRACKET) || !seal(p, args))
        return NULL;
    if (args->list.n == 1)
        args = args->list.v[0];
    else
        for (uint32_t i = 0; i < args->list.n; i++)
            if (args->list.v[i]->kind == N_SLICE) {
                parser_fail(p, line, "a slice among several subscripts is not supported");
                return NULL;
            }
    return binary(p, N_ITEM, T_LBRACKET, obj, args, line);
}

static bool push_kwarg(struct parser *p, struct node *n, struct name *name, struct node *value)
{
    if (!name || !value)
        return false;
    for (uint32_t i = 0; i < n->n_kw && i < 64; i++)
        if (n->kw[i].name == name)
            return parser_fail(p, n->line, "keyword argument '%.*s' repeated", STR_ARG(name->text));
    if ((n->n_kw & (n->n_kw - 1)) == 0) { /* full at powers of two */
        struct kwarg_node *v =
            arena_try_alloc(&p->j->arena, (n->n_kw ? n->n_kw * 2 : 1) * sizeof(*v), p->err);
        if (!v)
            return false;
        if (n->n_kw)
            memcpy(v, n->kw, n->n_kw * sizeof(*v));
        n->kw = v;
    }
    n->kw[n->n_kw++] = (struct kwarg_node){name, value};
    return true;
}

static bool call_arg(struct parser *p, struct node *n)
{
    static const char BAD[] = "invalid syntax for function call expression";
    if (skip_tok(p, T_MUL)) {
        if (n->dyn_args || n->dyn_kwargs)
            return parser_fail(p, n->line, BAD);
        return (n->dyn_args = parse_expr(p, true)) != NULL;
    }
    if (skip_tok(p, T_POW)) {
        if (n->dyn_kwargs)
            return parser_fail(p, n->line, BAD);
        return (n->dyn_kwargs = parse_expr(p, true)) != NULL;
    }
    if (is_tok(p, T_NAME) && p->toks[p->pos + 1].type == T_ASSIGN) {
        if (n->dyn_kwargs)
            return parser_fail(p, n->line, BAD);
        struct name *name = jinja_name(p->j, peek(p)->text, p->err);
        p->pos += 2;
        return push_kwarg(p, n, name, name ? parse_expr(p, true) : NULL);
    }
    if (n->dyn_args || n->dyn_kwargs || n->n_kw)
        return parser_fail(p, n->line, BAD);
    return parser_push(p, &n->list, parse_expr(p, true));
}

/* "(…)" into n's arguments. */
static bool call_args(struct parser *p, struct node *n)
{
    if (!parser_expect(p, T_LPAREN))
        return false;
    for (bool first = true; !is_tok(p, T_RPAREN); first = false) {
        if (!first && !parser_expect(p, T_COMMA))
            return false;
        if (!first && is_tok(p, T_RPAREN))
            break;
        if (!call_arg(p, n))
            return false;
    }
    return parser_expect(p, T_RPAREN);
}

static struct node *call(struct parser *p, struct node *fn)
{
    struct node *n = parser_node(p, N_CALL, peek(p)->line);
    if (!n || !call_args(p, n))
        return NULL;
    n->a = fn;
    return seal(p, n);
}

static struct node *postfix(struct parser *p, struct node *n)
{
    while (n) {
        if (is_tok(p, T_DOT))
            n = attribute(p, n);
        else if (is_tok(p, T_LBRACKET))
            n = item(p, n);
        else if (is_tok(p, T_LPAREN))
            n = call(p, n);
        else
            break;
    }
    return n;
}

/* "name" or "a.b.c" of a filter or test. */
static struct name *dotted_name(struct parser *p)
{
    if (!is_tok(p, T_NAME)) {
        parser_expect(p, T_NAME);
        return NULL;
    }
    struct str s = p->toks[p->pos++].text;
    while (is_tok(p, T_DOT)) {
        p->pos++;
        if (!is_tok(p, T_NAME)) {
            parser_expect(p, T_NAME);
            return NULL;
        }
        struct str part = p->toks[p->pos++].text;
        char *joined = arena_try_alloc(&p->j->arena, s.len + part.len + 2, p->err);
        if (!joined)
            return NULL;
        memcpy(joined, s.p, s.len);
        joined[s.len] = '.';
        memcpy(joined + s.len + 1, part.p, part.len);
        s = (struct str){joined, s.len + part.len + 1};
    }
    return jinja_name(p->j, s, p->err);
}

struct node *parse_filter_chain(struct parser *p, struct node *in, bool starts_inline)
{
    while (starts_inline || is_tok(p, T_PIPE)) {
        if (!starts_inline)
            p->pos++;
        starts_inline = false;
        struct node *n = parser_node(p, N_FILTER, peek(p)->line);
        if (!n || !(n->name = dotted_name(p)) || (is_tok(p, T_LPAREN) && !call_args(p, n)))
            return NULL;
        n->a = in;
        if (!(in = seal(p, n)))
            return NULL;
    }
    return in;
}

static struct node *test(struct parser *p, struct node *in)
{
    uint32_t line = peek(p)->line;
    p->pos++; /* is */
    bool negated = parser_skip_name(p, "not");
    struct node *n = parser_node(p, N_TEST, line);
    if (!n || !(n->name = dotted_name(p)))
        return NULL;
    n->a = in;
    switch (peek(p)->type) {
    case T_LPAREN:
        if (!call_args(p, n))
            return NULL;
        break;
    case T_NAME:
        if (parser_is_name(p, 0, "else") || parser_is_name(p, 0, "or") ||
            parser_is_name(p, 0, "and"))
            break;
        if (parser_is_name(p, 0, "is")) {
            parser_fail(p, line, "you cannot chain multiple tests with is");
            return NULL;
        }
        /* fall through */
    case T_STRING:
    case T_INT:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE: {
        struct node *arg = primary(p);
        if (!arg || !parser_push(p, &n->list, postfix(p, arg)))
            return NULL;
        break;
    }
    default: break;
    }
    if (!seal(p, n))
        return NULL;
    return negated ? unary(p, N_NOT, n, line) : n;
}

static struct node *filters_and_tests(struct parser *p, struct node *n)
{
    while (n) {
        if (is_tok(p, T_PIPE))
            n = parse_filter_chain(p, n, false);
        else if (parser_is_name(p, 0, "is"))
            n = test(p, n);
        else if (is_tok(p, T_LPAREN))
            n = call(p, n);
        else
            break;
    }
    return n;
}

static struct node *parse_unary(struct parser *p, bool with_filter)
{
    uint32_t line = peek(p)->line;
    struct node *n;
    if (!parser_enter(p))
        return NULL;
    if (skip_tok(p, T_SUB))
        n = unary(p, N_NEG, parse_unary(p, false), line);
    else if (skip_tok(p, T_ADD))
        n = unary(p, N_POS, parse_unary(p, false), line);
    else
        n = primary(p);
    n = postfix(p, n);
    if (with_filter)
        n = filters_and_tests(p, n);
    p->depth--;
    return n;
}

static struct node *parse_pow(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *n = parse_unary(p, true);
    while (n && skip_tok(p, T_POW))
        n = binary(p, N_BIN, T_POW, n, parse_unary(p, true), line);
    return n;
}

static struct node *parse_math2(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *n = parse_pow(p);
    while (n &&
           (is_tok(p, T_MUL) || is_tok(p, T_DIV) || is_tok(p, T_FLOORDIV) || is_tok(p, T_MOD))) {
        enum tok op = p->toks[p->pos++].type;
        n = binary(p, N_BIN, op, n, parse_pow(p), line);
    }
    return n;
}

static struct node *parse_concat(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *first = parse_math2(p);
    if (!first || !is_tok(p, T_TILDE))
        return first;
    struct node *n = parser_node(p, N_CONCAT, line);
    if (!n || !parser_push(p, &n->list, first))
        return NULL;
    while (skip_tok(p, T_TILDE))
        if (!parser_push(p, &n->list, parse_math2(p)))
            return NULL;
    return seal(p, n);
}

static struct node *parse_math1(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *n = parse_concat(p);
    while (n && (is_tok(p, T_ADD) || is_tok(p, T_SUB))) {
        enum tok op = p->toks[p->pos++].type;
        n = binary(p, N_BIN, op, n, parse_concat(p), line);
    }
    return n;
}

/* The comparison operator at hand, taken; T_EOF for none. */
static enum tok take_compare_op(struct parser *p)
{
    enum tok t = peek(p)->type;
    if (t >= T_EQ && t <= T_LE) {
        p->pos++;
        return t;
    }
    if (parser_skip_name(p, "in"))
        return T_IN;
    if (parser_is_name(p, 0, "not") && parser_is_name(p, 1, "in")) {
        p->pos += 2;
        return T_NOTIN;
    }
    return T_EOF;
}

static struct node *parse_compare(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *first = parse_math1(p), *n = NULL;
    enum tok op;
    while (first && (op = take_compare_op(p)) != T_EOF) {
        if (!n && !(n = parser_node(p, N_COMPARE, line)))
            return NULL;
        n->a = first;
        struct node *operand = parse_math1(p);
        struct node *box =
            operand ? parser_node(p, N_POS, line) : NULL; /* carries op beside its operand */
        if (!box || !parser_push(p, &n->list, box))
            return NULL;
        box->op = op;
        box->a = operand;
        if (!seal(p, box))
            return NULL;
    }
    return n ? seal(p, n) : first;
}

static struct node *parse_not(struct parser *p)
{
    uint32_t line = peek(p)->line;
    if (!parser_is_name(p, 0, "not"))
        return parse_compare(p);
    p->pos++;
    if (!parser_enter(p))
        return NULL;
    struct node *n = unary(p, N_NOT, parse_not(p), line);
    p->depth--;
    return n;
}

static struct node *parse_and(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *n = parse_not(p);
    while (n && parser_skip_name(p, "and"))
        n = binary(p, N_AND, T_EOF, n, parse_not(p), line);
    return n;
}

static struct node *parse_or(struct parser *p)
{
    uint32_t line = peek(p)->line;
    struct node *n = parse_and(p);
    while (n && parser_skip_name(p, "or"))
        n = binary(p, N_OR, T_EOF, n, parse_and(p), line);
    return n;
}

struct node *parse_expr(struct parser *p, bool with_cond)
{
    if (!parser_enter(p))
        return NULL;
    struct node *n = parse_or(p);
    while (n && with_cond && parser_is_name(p, 0, "if")) {
        struct node *c = parser_node(p, N_COND, peek(p)->line);
        p->pos++;
        if (!c)
            return NULL;
        c->b = n;
        if (!(c->a = parse_or(p)))
            return NULL;
        if (parser_skip_name(p, "else") && !(c->c = parse_expr(p, true)))
            return NULL;
        n = seal(p, c);
    }
    p->depth--;
    return n;
}

static bool at_tuple_end(const struct parser *p, unsigned flags)
{
    enum tok t = peek(p)->type;
    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN ||
           ((flags & TUPLE_END_IN) && parser_is_name(p, 0, "in")) ||
           ((flags & TUPLE_END_RECURSIVE) && parser_is_name(p, 0, "recursive"));
}

struct node *parse_tuple(struct parser *p, unsigned flags)
{
    uint32_t line = peek(p)->line;
    struct nodes items = {NULL, 0};
    bool is_tuple = false;
    if (!parser_enter(p))
        return NULL;
    for (;;) {
        if (items.n && !parser_expect(p, T_COMMA))
            return NULL;
        if (at_tuple_end(p, flags))
            break;
        struct node *n =
            flags & TUPLE_SIMPLE ? primary(p) : parse_expr(p, !(flags & TUPLE_NO_COND));
        if (!parser_push(p, &items, n))
            return NULL;
        if (!is_tok(p, T_COMMA))
            break;
        is_tuple = true;
    }
    p->depth--;
    if (!is_tuple && items.n)
        return items.v[0];
    if (!is_tuple && !(flags & TUPLE_PARENS)) {
        parser_fail(p, line, "expected an expression, got '%s'", tok_name(peek(p)->type));
        return NULL;
    }
    struct node *n = parser_node(p, N_TUPLE, line);
    if (!n)
        return NULL;
    n->list = items;
    return seal(p, n);
}

/* Marks an expression as something to store into. */
static bool make_target(struct parser *p, struct node *n)
{
    if (n->kind == N_NAME) {
        n->ctx = CTX_STORE;
        return true;
    }
    if (n->kind != N_TUPLE)
        return parser_fail(p, n->line, "can't assign to this expression");
    for (uint32_t i = 0; i < n->list.n; i++)
        if (!make_target(p, n->list.v[i]))
            return false;
    return true;
}

struct node *parse_target(struct parser *p, unsigned flags, bool with_namespace)
{
    if (with_namespace && is_tok(p, T_NAME) && p->toks[p->pos + 1].type == T_DOT) {
        struct node *n = parser_node(p, N_NSREF, peek(p)->line);
        if (!n || !(n->name = jinja_name(p->j, peek(p)->text, p->err)))
            return NULL;
        p->pos += 2;
        if (!is_tok(p, T_NAME)) {
            parser_expect(p, T_NAME);
            return NULL;
        }
        n->attr = jinja_name(p->j, p->toks[p->pos++].text, p->err);
        return n->attr ? n : NULL;
    }
    struct node *n = parse_tuple(p, flags | TUPLE_SIMPLE);
    return n && make_target(p, n) ? n : NULL;
}
