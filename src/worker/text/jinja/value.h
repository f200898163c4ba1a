/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a template: what Python's objects are to Jinja2, in one rendering's arena.
 *
 * Nothing is ever freed singly.  Values of one rendering belong to its thread; constants of a
 * compiled program are shared and never written. */
#ifndef WORKER_TEXT_JINJA_VALUE_H
#define WORKER_TEXT_JINJA_VALUE_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/limits.h"
#include "lib/base/str.h"

enum vtype {
    V_MISSING, /* a variable nothing was stored in; never seen by an operation */
    V_UNDEF,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_RANGE,
    V_VIEW,
    V_GEN,
    V_NS,
    V_LOOP,
    V_MACRO,
    V_FUNC,
    V_CYCLER,
    V_JOINER
};

struct value {
    enum vtype type;
    union {
        bool b;
        int64_t i;
        double f;
        struct jstr *s;
        struct jlist *l; /* V_LIST, V_TUPLE */
        struct jdict *d; /* V_DICT, V_NS */
        struct undef *u;
        struct jrange *r;
        struct jview *view;
        struct jgen *gen;
        struct jloop *loop;
        struct jmacro *macro;
        struct jfunc *func;
        struct jcycler *cycler;
        struct jjoiner *joiner;
        const void *p;
    };
};

/* Bytes up to `end` (from the mark before) are from the input or not. */
struct mark {
    size_t end;
    bool is_input;
};

/* A string: valid UTF-8, immutable. */
struct jstr {
    const char *p;
    size_t len;               /* bytes */
    size_t n_chars;           /* or SIZE_MAX: not counted yet */
    const struct mark *marks; /* when n_marks > 0; the last one's end is len */
    uint32_t n_marks;
    bool all_input; /* when n_marks == 0 */
    bool is_markup; /* markupsafe's Markup */
};

struct jlist {
    struct value *v;
    uint32_t n, cap;
    bool is_group; /* a tuple of |groupby: .grouper and .list */
};

struct dict_item {
    struct value key, val;
    uint64_t hash;
};
/* Insertion-ordered; items are never removed. */
struct jdict {
    struct dict_item *items;
    uint32_t n, cap;
    uint32_t *index; /* n_index slots of item + 1, or NULL while small */
    uint32_t n_index;
};

struct undef {
    const char *hint; /* or NULL */
    bool has_obj, is_unsafe;
    struct value obj, name;
};

struct jrange {
    int64_t start, stop, step;
    int64_t n;
};

enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };
struct jview {
    enum view_kind kind;
    struct jdict *d;
};

/* Walks anything iterable. */
struct iter {
    struct value src;
    size_t pos;
};

struct rt;
struct args;

/* A lazy sequence, consumed once. */
struct jgen {
    const char *type_name;
    /* Sets *has_item; *out is the item. */
    int (*next)(struct rt *rt, struct jgen *g, struct value *out, bool *has_item);
    struct iter src;
    struct args *args;
    struct value extra; /* what next() needs */
    const void *fn;
    int64_t n, pos;
    bool flag, flag2, is_done;
};

typedef int func_fn(struct rt *rt, struct value self, const struct args *args, struct value *out);

struct jfunc {
    const char *name;
    func_fn *fn;
    struct value self; /* of a bound method, else V_MISSING */
};

struct jcycler {
    const struct jlist *items;
    uint32_t pos;
};
struct jjoiner {
    struct value sep;
    bool used;
};

#define VALUE_NONE    ((struct value){.type = V_NONE})
#define VALUE_MISSING ((struct value){.type = V_MISSING})
static inline struct value value_bool(bool b)
{
    return (struct value){.type = V_BOOL, .b = b};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.type = V_INT, .i = i};
}
static inline struct value value_float(double f)
{
    return (struct value){.type = V_FLOAT, .f = f};
}
static inline struct value value_str(struct jstr *s)
{
    return (struct value){.type = V_STR, .s = s};
}
static inline struct value value_list(struct jlist *l)
{
    return (struct value){.type = V_LIST, .l = l};
}
static inline struct value value_tuple(struct jlist *l)
{
    return (struct value){.type = V_TUPLE, .l = l};
}
static inline struct value value_dict(struct jdict *d)
{
    return (struct value){.type = V_DICT, .d = d};
}

#endif
