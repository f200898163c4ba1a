/* SPDX-License-Identifier: Apache-2.0 */
/* One rendering: its memory, its limits, and what the parts of the interpreter offer each other.
 *
 * Functions return 0 or the negative code with rt->err filled, unless said otherwise.  One thread.
 */
#ifndef WORKER_TEXT_JINJA_RUNTIME_H
#define WORKER_TEXT_JINJA_RUNTIME_H

#include "worker/text/jinja.h"
#include "worker/text/jinja/ast.h"

/* Bytes that cost one step. */
#define STEP_BYTES 64u
/* Evaluations inside each other, macro calls included. */
#define JINJA_EVAL_DEPTH (12u * LIMIT_TEMPLATE_DEPTH)
/* As Jinja2's sandbox. */
#define JINJA_MAX_RANGE 100000

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int try_rc_ = (call);                                                                      \
        if (try_rc_)                                                                               \
            return try_rc_;                                                                        \
    } while (0)

/* The variables of a scope that runs. */
struct frame {
    struct frame *up;
    const struct scope *scope;
    struct value *slots;
};

/* A string in the making, with its marks. */
struct sb {
    struct rt *rt;
    char *p;
    size_t len, cap;
    struct mark *marks;
    uint32_t n_marks, cap_marks;
    int failed; /* negative code */
};

struct rt {
    const struct jinja *j;
    const struct jinja_options *opt;
    struct arena arena;
    struct err *err;
    uint64_t steps;
    uint32_t depth, n_macros, n_blocks;
    uint32_t line;
    struct frame *root;
    struct value *context; /* by name id, converted when first read */
    bool *is_looked_up;
    struct sb *out;
    struct value filter_in; /* what a filter or set block captured */
};

struct kwarg {
    struct jstr *name;
    struct value v;
};
struct args {
    const struct value *v;
    uint32_t n;
    struct kwarg *kw;
    uint32_t n_kw;
};

struct jmacro {
    const struct node *node;
    struct frame *env;
    const char *name; /* NULL: a call block's body */
};

struct jloop {
    struct iter it;
    struct value iterable;
    int64_t index0, length;              /* length -1: unknown */
    struct value before, current, after; /* after: V_MISSING unless peeked */
    bool has_peeked, is_exhausted;
    const struct node *node; /* of a recursive loop, else NULL */
    struct frame *up;
    int64_t depth0;
    struct value last_changed;
};

/* eval.c */
int rt_fail(struct rt *rt, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int rt_step(struct rt *rt, uint64_t n);
int rt_charge(struct rt *rt, size_t n_bytes);         /* pays for touching that many bytes */
void *rt_alloc(struct rt *rt, size_t n, size_t size); /* zeroed; NULL with err */
int rt_enter(struct rt *rt);                          /* one level deeper; pair with rt->depth-- */
int eval(struct rt *rt, struct frame *f, const struct node *n, struct value *out);
int eval_filters(struct rt *rt, struct frame *f, const struct node *n, struct value in,
                 struct value *out);
int eval_args(struct rt *rt, struct frame *f, const struct node *n, struct args *out);
int rt_call(struct rt *rt, struct value fn, const struct args *args, struct value *out);

/* exec.c */
struct frame *frame_new(struct rt *rt, const struct scope *s, struct frame *up);
int frame_enter(struct rt *rt, struct frame *f);
int rt_resolve(struct rt *rt, const struct name *name,
               struct value *out); /* V_MISSING: no such variable */
int exec_body(struct rt *rt, struct frame *f, struct nodes body, int *jump);
int macro_call(struct rt *rt, struct jmacro *m, const struct args *args, struct value *out);
int loop_recurse(struct rt *rt, struct jloop *l, struct value iterable, struct value *out);
int loop_peek(struct rt *rt, struct jloop *l, struct value *out, bool *has);
/* Moves on to the next item, which is then l->current; *has false: there is none. */
int loop_next(struct rt *rt, struct jloop *l, bool *has);
int loop_length(struct rt *rt, struct jloop *l, int64_t *out);
int unpack(struct rt *rt, struct value v, uint32_t n, struct value *out);

/* text.c */
void sb_init(struct sb *b, struct rt *rt);
void sb_put(struct sb *b, const char *p, size_t n, bool is_input);
void sb_lit(struct sb *b, const char *s);
void sb_char(struct sb *b, uint32_t c, bool is_input);
void sb_str(struct sb *b, const struct jstr *s);
void sb_sub(struct sb *b, const struct jstr *s, size_t from, size_t to); /* bytes */
void sb_fill(struct sb *b, const char *p, size_t n, size_t times, bool is_input);
void sb_mark_all(struct sb *b); /* all of it is input if any of it is */
int sb_finish(struct sb *b, struct value *out);
bool jstr_input_at(const struct jstr *s, size_t pos);
bool jstr_has_input(const struct jstr *s);
size_t jstr_chars(struct jstr *s);
size_t jstr_byte_of(struct jstr *s,
                    size_t n_chars); /* where character n starts; len past the end */
int str_new(struct rt *rt, const char *p, size_t n, struct value *out); /* copies; trusted */
int str_lit(struct rt *rt, const char *s, struct value *out);
int str_sub(struct rt *rt, const struct jstr *s, size_t from, size_t to,
            struct value *out); /* bytes; borrows */
static inline struct str jstr_str(const struct jstr *s)
{
    return (struct str){s->p, s->len};
}
bool jstr_is(const struct jstr *s, const char *lit);
size_t str_find(struct str hay, struct str needle, size_t from); /* SIZE_MAX: nowhere */
/* The last one that ends at or before end. */
int str_rfind(struct rt *rt, struct str hay, struct str needle, size_t end, size_t *ret);
bool char_is_alpha(uint32_t c);
bool char_is_decimal(uint32_t c);
bool char_is_digit(uint32_t c);
bool char_is_numeric(uint32_t c);
bool char_is_printable(uint32_t c);
bool char_is_cased(uint32_t c);
bool char_is_lower(uint32_t c);
bool char_is_upper(uint32_t c);
enum case_op { CASE_LOWER, CASE_UPPER, CASE_TITLE, CASE_FOLD };
void sb_case(struct sb *b, const struct jstr *s, size_t from, size_t to, enum case_op op);

/* values.c */
struct jlist *list_new(struct rt *rt, size_t cap);
int list_push(struct rt *rt, struct jlist *l, struct value v);
struct jdict *dict_new(struct rt *rt);
int dict_put(struct rt *rt, struct jdict *d, struct value key, struct value v);
int dict_put_lit(struct rt *rt, struct jdict *d, const char *key, struct value v);
int dict_get(struct rt *rt, const struct jdict *d, struct value key,
             const struct dict_item **ret); /* NULL: none */
const struct value *dict_get_str(const struct jdict *d, struct str key);
int value_undef(struct rt *rt, const char *hint, struct value *out);
int value_undef_name(struct rt *rt, const struct name *name, struct value *out);
int value_undef_of(struct rt *rt, struct value obj, struct value name, bool is_unsafe,
                   struct value *out);
int undef_fail(struct rt *rt, struct value v);
int value_from_json(struct rt *rt, const json_t *v, bool is_input, uint32_t depth, bool in_messages,
                    struct value *out);
struct jgen *gen_new(struct rt *rt, const char *type_name,
                     int (*next)(struct rt *, struct jgen *, struct value *, bool *));

/* ops.c */
const char *type_name(struct value v);
bool is_num(struct value v);     /* bool, int or float */
bool is_integer(struct value v); /* bool or int */
int64_t as_int(struct value v);
double as_float(struct value v);
int value_truth(struct rt *rt, struct value v, bool *out);
int value_len(struct rt *rt, struct value v, int64_t *out);
int value_eq(struct rt *rt, struct value a, struct value b, bool *out);
bool value_is(struct value a, struct value b); /* Python's `is` */
int value_compare(struct rt *rt, enum tok op, struct value a, struct value b, bool *out);
int value_contains(struct rt *rt, struct value container, struct value v, bool *out);
int value_arith(struct rt *rt, enum tok op, struct value a, struct value b, struct value *out);
int value_neg(struct rt *rt, struct value v, bool negate, struct value *out);
int value_hash(struct rt *rt, struct value v, uint64_t *out);
int value_order(struct rt *rt, struct value a, struct value b, bool *is_less);

/* print.c: str() and repr() */
int to_str(struct rt *rt, struct value v, struct jstr **out);
int sb_to_str(struct sb *b, struct value v);
int sb_repr(struct sb *b, struct value v);
void sb_float(struct sb *b, double f);
void sb_int(struct sb *b, int64_t i);

/* iter.c */
int iter_init(struct rt *rt, struct value v, struct iter *it); /* fails when v is not iterable */
int iter_next(struct rt *rt, struct iter *it, struct value *out, bool *has);
int list_from(struct rt *rt, struct value v, struct jlist **out); /* a new list of its items */

/* access.c */
int value_attr(struct rt *rt, struct value obj, struct jstr *name, struct value *out);
int value_item(struct rt *rt, struct value obj, struct value key, struct value *out);
int value_slice(struct rt *rt, struct value obj, const struct value part[3], struct value *out);
/* What Python's getattr finds: *found false for nothing, *is_unsafe where the sandbox forbids it.
 */
int py_attr(struct rt *rt, struct value obj, struct str name, struct value *out, bool *found,
            bool *is_unsafe);
/* A path such as "a.b.0" (attribute= of filters); an attribute absent becomes dflt unless that is
 * V_MISSING. */
int value_path(struct rt *rt, struct value obj, struct value path, struct value dflt,
               struct value *out);

/* methods_str.c, methods_obj.c: rows {name, fn}; NULL fn: the sandbox forbids it. */
struct method {
    const char *name;
    func_fn *fn;
};
extern const struct method STR_METHODS[], LIST_METHODS[], TUPLE_METHODS[], DICT_METHODS[],
    NUM_METHODS[], RANGE_METHODS[], LOOP_METHODS[], CYCLER_METHODS[]; /* end with a NULL name */
int str_replace(struct rt *rt, const struct jstr *s, const struct jstr *old,
                const struct jstr *new_, int64_t max, struct value *out); /* max < 0: all */
bool jstr_is_case(const struct jstr *s, bool upper); /* str.isupper, str.islower */
bool jinja_is_input_key(const char *keys, struct str name);
int global_find(struct rt *rt, struct str name, struct value *out, bool *found); /* globals.c */
int strftime_format(struct rt *rt, struct jstr *fmt, int64_t unix_s,
                    struct value *out); /* strftime.c */

/* format.c */
int format_percent(struct rt *rt, struct jstr *fmt, struct value args, struct value *out);
int format_brace(struct rt *rt, struct jstr *fmt, const struct args *args, struct value *out);

/* args.c: parameters by position and name, as Python binds them.  spec: names separated by spaces;
 * those after "|" may be left out.  Unbound ones are V_MISSING. */
int bind_args(struct rt *rt, const char *fn, const char *spec, const struct args *args,
              struct value *out);
int arg_int(struct rt *rt, const char *fn, struct value v, int64_t dflt, int64_t *out);
int arg_bool(struct rt *rt, struct value v, bool dflt, bool *out);
int arg_str(struct rt *rt, const char *fn, struct value v,
            struct jstr **out); /* V_MISSING: *out NULL */

/* filters_*.c, tests.c */
typedef int filter_fn(struct rt *rt, struct value in, const struct args *args, struct value *out);
typedef int test_fn(struct rt *rt, struct value in, const struct args *args, bool *out);
struct filter {
    const char *name;
    filter_fn *fn;
};
struct jinja_test {
    const char *name;
    test_fn *fn;
};
extern const struct filter FILTERS_TEXT[], FILTERS_SEQ[], FILTERS_NUM[],
    FILTERS_HTML[]; /* end with a NULL name */
const struct filter *jinja_find_filter(struct str name);
const struct jinja_test *jinja_find_test(struct str name);
int filter_tojson(struct rt *rt, struct value in, const struct args *args, struct value *out);
int escape_html(struct rt *rt, struct value v, struct value *out); /* markupsafe.escape */
/* A stable order of keys: positions. */
int sort_values(struct rt *rt, const struct jlist *keys, bool reverse, uint32_t **ret_pos);

#endif
