/* SPDX-License-Identifier: Apache-2.0 */
/* A parsed template: tokens, tree, scopes.  Everything lives in the program's arena and is
 * read-only once compiled. */
#ifndef WORKER_TEXT_JINJA_AST_H
#define WORKER_TEXT_JINJA_AST_H

#include "lib/base/map.h"
#include "worker/text/jinja/value.h"

/* A left-leaning chain ("a - b - c …") may be longer than nesting may be deep. */
#define JINJA_TREE_HEIGHT (4u * LIMIT_TEMPLATE_DEPTH)

enum tok {
    T_EOF,
    T_DATA,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_VAR_BEGIN,
    T_VAR_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_DIV,
    T_FLOORDIV,
    T_MUL,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON,
    T_IN,
    T_NOTIN /* operators of comparisons only, never tokens */
};

struct token {
    enum tok type;
    uint32_t line;
    struct str text; /* of names, strings (unescaped), data */
    int64_t i;
    double f;
};

/* An identifier of the template. */
struct name {
    struct str text;
    struct jstr *s;
    uint32_t id;
    bool is_read; /* as a variable */
};

enum nkind {
    N_CONST,
    N_NAME,
    N_TUPLE,
    N_LIST,
    N_DICT,
    N_CONCAT,
    N_BIN,
    N_NEG,
    N_POS,
    N_NOT,
    N_AND,
    N_OR,
    N_COMPARE,
    N_COND,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_NSREF,
    /* statements */
    N_TEXT,
    N_PRINT,
    N_FOR,
    N_IF,
    N_SET,
    N_SETBLOCK,
    N_MACRO,
    N_CALLBLOCK,
    N_FILTERBLOCK,
    N_WITH,
    N_BREAK,
    N_CONTINUE,
    N_BLOCK,
    N_SCOPED
};

enum name_ctx { CTX_LOAD, CTX_STORE, CTX_PARAM };

struct nodes {
    struct node **v;
    uint32_t n;
};

struct kwarg_node {
    struct name *name;
    struct node *value;
};

struct node {
    enum nkind kind;
    enum tok op; /* N_BIN; of one operand of N_COMPARE */
    uint32_t line;
    uint16_t height;
    uint8_t ctx; /* enum name_ctx */
    bool flag;  /* N_FOR: recursive; N_BLOCK: scoped; N_CALL: has *args, then dyn_args/dyn_kwargs */
    bool flag2; /* N_FOR: wants `loop`; N_MACRO: wants caller */
    bool wants_kwargs, wants_varargs;
    struct node *a, *b, *c; /* operands: see the parser */
    struct nodes list, list2;
    enum tok *ops; /* N_COMPARE: list.n of them */
    struct kwarg_node *kw;
    uint32_t n_kw;
    struct node *dyn_args, *dyn_kwargs;
    struct value v; /* N_CONST, N_TEXT */
    struct name *name;
    struct name *attr;   /* N_NSREF */
    uint32_t hops, slot; /* N_NAME, N_NSREF, N_MACRO (where it is stored) */
    struct scope *scope, *scope2, *scope3;
    const void *fn; /* filter or test; NULL: unknown, an error when reached */
    /* slots of special names within scope */
    uint32_t slot_loop, slot_caller, slot_kwargs, slot_varargs;
};

enum load_kind { LOAD_NONE, LOAD_PARAM, LOAD_RESOLVE, LOAD_ALIAS, LOAD_UNDEFINED };

/* A name in a scope; its index is its slot at run time. */
struct sym {
    struct name *name;
    enum load_kind load;
    uint32_t hops, slot; /* LOAD_ALIAS: where from */
    bool has_ref, is_stored;
    uint32_t stamp, n_branches; /* scope.c's scratch */
};

/* A change to undo at the end of a branch. */
struct sym_change {
    uint32_t sym;
    struct sym before;
};

struct scope {
    struct scope *parent;
    struct sym *syms;
    uint32_t n, cap;
    uint32_t *index; /* hash of name id -> sym + 1 */
    uint32_t n_index;
    struct sym_change *journal;
    uint32_t n_journal, cap_journal;
};

struct jinja {
    struct arena arena;
    struct nodes body;
    struct scope *root;
    struct name **names;
    uint32_t n_names, cap_names;
    struct map name_map;
};

/* lexer.c: every token of source (newlines not yet normalised); E_FORMAT with the line. */
int jinja_lex(struct jinja *j, struct str source, struct token **ret_toks, size_t *ret_n,
              struct err *err) MUST_USE;

/* The one name with this text. */
struct name *jinja_name(struct jinja *j, struct str text, struct err *err) MUST_USE;
struct jstr *jinja_const_str(struct jinja *j, struct str text, struct err *err) MUST_USE;

/* parse_stmt.c, parse_expr.c */
struct parser {
    struct jinja *j;
    const struct token *toks;
    size_t pos;
    struct err *err;
    uint32_t depth;
    uint32_t n_loops; /* enclosing loops of the current function body: where break may stand */
    uint32_t n_iter_names;
};
int jinja_parse(struct jinja *j, const struct token *toks, struct err *err) MUST_USE;
struct node *parse_expr(struct parser *p, bool with_cond);
enum {
    TUPLE_SIMPLE = 1,
    TUPLE_NO_COND = 2,
    TUPLE_PARENS = 4,
    TUPLE_END_IN = 8,
    TUPLE_END_RECURSIVE = 16
};
struct node *parse_tuple(struct parser *p, unsigned flags);
struct node *parse_target(struct parser *p, unsigned flags, bool with_namespace);
struct node *parse_filter_chain(struct parser *p, struct node *in, bool starts_inline);

static inline const struct token *peek(const struct parser *p)
{
    return &p->toks[p->pos];
}
struct node *parser_node(struct parser *p, enum nkind kind, uint32_t line);
bool parser_push(struct parser *p, struct nodes *list, struct node *n);
bool parser_fail(struct parser *p, uint32_t line, const char *fmt, ...)
    PRINTF_LIKE(3, 4); /* always false */
bool parser_expect(struct parser *p, enum tok t);
bool parser_is_name(const struct parser *p, size_t ahead, const char *name);
bool parser_skip_name(struct parser *p, const char *name);
bool parser_enter(struct parser *p);
const char *tok_name(enum tok t);
/* Sets n->height from its children; false when too high. */
bool parser_seal(struct parser *p, struct node *n);

/* scope.c: gives every name its place, finds filters and tests. */
int jinja_resolve(struct jinja *j, struct err *err) MUST_USE;

/* text.c: the next character of valid UTF-8. */
uint32_t char_next(const char *p, size_t len, size_t *pos);
/* Bytes of c written to out (at most 4). */
unsigned char_put(uint32_t c, char *out);
bool text_is_utf8(struct str s);
size_t char_count(const char *p, size_t len);
bool is_py_space(uint32_t c);

#endif
