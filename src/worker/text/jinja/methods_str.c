/* SPDX-License-Identifier: Apache-2.0 */
/* Methods of strings, as Python's str has them. */
#include "worker/text/jinja/runtime.h"

static int finish(struct sb *b, const struct jstr *self, struct value *out)
{
    TRY(sb_finish(b, out));
    out->s->is_markup = self->is_markup;
    return 0;
}

static int no_args(struct rt *rt, const char *name, const struct args *args)
{
    struct value none[1];
    return bind_args(rt, name, "", args, none);
}

static int whole_case(struct rt *rt, const struct jstr *s, enum case_op op, struct value *out)
{
    struct sb b;
    TRY(rt_charge(rt, s->len));
    sb_init(&b, rt);
    sb_case(&b, s, 0, s->len, op);
    return finish(&b, s, out);
}

static int str_upper(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    TRY(no_args(rt, "upper", args));
    return whole_case(rt, self.s, CASE_UPPER, out);
}
static int str_lower(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    TRY(no_args(rt, "lower", args));
    return whole_case(rt, self.s, CASE_LOWER, out);
}
static int str_casefold(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    TRY(no_args(rt, "casefold", args));
    return whole_case(rt, self.s, CASE_FOLD, out);
}

static int str_capitalize(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    struct sb b;
    size_t first = 0;
    TRY(no_args(rt, "capitalize", args));
    TRY(rt_charge(rt, self.s->len));
    sb_init(&b, rt);
    char_next(self.s->p, self.s->len, &first);
    sb_case(&b, self.s, 0, first, CASE_TITLE);
    sb_case(&b, self.s, first, self.s->len, CASE_LOWER);
    return finish(&b, self.s, out);
}

/* title and swapcase: what each character becomes depends on the one before or itself. */
static int each_case(struct rt *rt, const struct jstr *s, bool title, struct value *out)
{
    struct sb b;
    bool after_cased = false;
    TRY(rt_charge(rt, s->len));
    sb_init(&b, rt);
    for (size_t i = 0; i < s->len && !b.failed;) {
        size_t at = i;
        uint32_t c = char_next(s->p, s->len, &i);
        enum case_op op = title              ? (after_cased ? CASE_LOWER : CASE_TITLE)
                          : char_is_upper(c) ? CASE_LOWER
                                             : CASE_UPPER;
        if (!title && !char_is_cased(c))
            sb_sub(&b, s, at, i);
        else
            sb_case(&b, s, at, i, op);
        after_cased = char_is_cased(c);
    }
    return finish(&b, s, out);
}
static int str_title(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    TRY(no_args(rt, "title", args));
    return each_case(rt, self.s, true, out);
}
static int str_swapcase(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    TRY(no_args(rt, "swapcase", args));
    return each_case(rt, self.s, false, out);
}

static bool is_stripped(uint32_t c, const struct jstr *chars)
{
    if (!chars)
        return is_py_space(c);
    for (size_t i = 0; i < chars->len;)
        if (char_next(chars->p, chars->len, &i) == c)
            return true;
    return false;
}

static int strip(struct rt *rt, const char *name, struct value self, const struct args *args,
                 bool left, bool right, struct value *out)
{
    struct value v;
    struct jstr *chars = NULL;
    size_t from = 0, to = self.s->len;
    TRY(bind_args(rt, name, "|chars", args, &v));
    if (v.type != V_NONE)
        TRY(arg_str(rt, name, v, &chars));
    for (size_t next = from; left && from < to; from = next) {
        if (!is_stripped(char_next(self.s->p, to, &next), chars))
            break;
        TRY(rt_step(rt, chars ? 1 + chars->len / STEP_BYTES : 0));
    }
    while (right && to > from) {
        size_t at = to - 1, next;
        while (at > from && ((unsigned char)self.s->p[at] & 0xc0) == 0x80)
            at--;
        next = at;
        if (!is_stripped(char_next(self.s->p, self.s->len, &next), chars))
            break;
        TRY(rt_step(rt, chars ? 1 + chars->len / STEP_BYTES : 0));
        to = at;
    }
    TRY(rt_charge(rt, self.s->len - (to - from)));
    return str_sub(rt, self.s, from, to, out);
}
static int str_strip(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return strip(rt, "strip", self, args, true, true, out);
}
static int str_lstrip(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return strip(rt, "lstrip", self, args, true, false, out);
}
static int str_rstrip(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return strip(rt, "rstrip", self, args, false, true, out);
}

static int push_sub(struct rt *rt, struct jlist *l, const struct jstr *s, size_t from, size_t to)
{
    struct value v;
    TRY(str_sub(rt, s, from, to, &v));
    return list_push(rt, l, v);
}

static size_t skip_spaces(const struct jstr *s, size_t pos, bool space)
{
    while (pos < s->len) {
        size_t next = pos;
        if (is_py_space(char_next(s->p, s->len, &next)) != space)
            break;
        pos = next;
    }
    return pos;
}

static int split_spaces(struct rt *rt, const struct jstr *s, int64_t max, struct jlist *l)
{
    for (size_t pos = skip_spaces(s, 0, true); pos < s->len;) {
        size_t end = skip_spaces(s, pos, false);
        if (max >= 0 && (int64_t)l->n >= max) /* the rest keeps its trailing space */
            return push_sub(rt, l, s, pos, s->len);
        TRY(push_sub(rt, l, s, pos, end));
        pos = skip_spaces(s, end, true);
    }
    return 0;
}

static int split_sep(struct rt *rt, const struct jstr *s, struct str sep, int64_t max,
                     struct jlist *l)
{
    size_t pos = 0;
    while (max < 0 || (int64_t)l->n < max) {
        size_t at = str_find(jstr_str(s), sep, pos);
        if (at == SIZE_MAX)
            break;
        TRY(push_sub(rt, l, s, pos, at));
        pos = at + sep.len;
    }
    return push_sub(rt, l, s, pos, s->len);
}

static void reverse(struct jlist *l)
{
    for (uint32_t i = 0; i < l->n / 2; i++) {
        struct value t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
}

static size_t before(const struct jstr *s, size_t pos)
{
    do
        pos--;
    while (pos > 0 && ((unsigned char)s->p[pos] & 0xc0) == 0x80);
    return pos;
}

static size_t rskip_spaces(const struct jstr *s, size_t pos, bool space)
{
    while (pos > 0) {
        size_t at = before(s, pos), next = at;
        if (is_py_space(char_next(s->p, s->len, &next)) != space)
            break;
        pos = at;
    }
    return pos;
}

static int rsplit(struct rt *rt, const struct jstr *s, const struct jstr *sep, int64_t max,
                  struct jlist *l)
{
    size_t end = sep ? s->len : rskip_spaces(s, s->len, true);
    while (max < 0 || (int64_t)l->n < max) {
        size_t at;
        if (sep) {
            TRY(str_rfind(rt, jstr_str(s), jstr_str(sep), end, &at));
            if (at == SIZE_MAX)
                break;
            TRY(push_sub(rt, l, s, at + sep->len, end));
            end = at;
        } else {
            if (!end)
                break;
            at = rskip_spaces(s, end, false);
            TRY(push_sub(rt, l, s, at, end));
            end = rskip_spaces(s, at, true);
        }
    }
    if (sep || end)
        TRY(push_sub(rt, l, s, 0, end));
    reverse(l);
    return 0;
}

static int split_any(struct rt *rt, const char *name, struct value self, const struct args *args,
                     bool from_right, struct value *out)
{
    struct value v[2];
    struct jstr *sep = NULL;
    int64_t max;
    struct jlist *l = list_new(rt, 0);
    if (!l)
        return -rt->err->code;
    TRY(bind_args(rt, name, "|sep maxsplit", args, v));
    if (v[0].type != V_NONE)
        TRY(arg_str(rt, name, v[0], &sep));
    TRY(arg_int(rt, name, v[1], -1, &max));
    if (sep && sep->len == 0)
        return rt_fail(rt, E_FORMAT, "empty separator");
    TRY(rt_charge(rt, self.s->len));
    if (from_right && max >= 0)
        TRY(rsplit(rt, self.s, sep, max, l));
    else if (sep && from_right)
        TRY(rsplit(rt, self.s, sep, -1, l));
    else if (sep)
        TRY(split_sep(rt, self.s, jstr_str(sep), max, l));
    else
        TRY(split_spaces(rt, self.s, max, l));
    *out = value_list(l);
    return 0;
}
static int str_split(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return split_any(rt, "split", self, args, false, out);
}
static int str_rsplit(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return split_any(rt, "rsplit", self, args, true, out);
}

static bool is_line_end(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

static int str_splitlines(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    struct value v;
    bool keep;
    struct jlist *l = list_new(rt, 0);
    const struct jstr *s = self.s;
    if (!l)
        return -rt->err->code;
    TRY(bind_args(rt, "splitlines", "|keepends", args, &v));
    TRY(arg_bool(rt, v, false, &keep));
    TRY(rt_charge(rt, s->len));
    for (size_t i = 0, from = 0; i < s->len;) {
        size_t at = i;
        uint32_t c = char_next(s->p, s->len, &i);
        bool ends = is_line_end(c);
        if (c == '\r' && i < s->len && s->p[i] == '\n')
            i++;
        if (!ends && i < s->len)
            continue;
        TRY(push_sub(rt, l, s, from, ends && !keep ? at : i));
        from = i;
    }
    *out = value_list(l);
    return 0;
}

static int part(struct rt *rt, const char *name, struct value self, const struct args *args,
                bool from_right, struct value *out)
{
    struct value v;
    struct jstr *sep;
    struct jlist *l = list_new(rt, 3);
    size_t at, n = self.s->len;
    if (!l)
        return -rt->err->code;
    TRY(bind_args(rt, name, "sep", args, &v));
    TRY(arg_str(rt, name, v, &sep));
    if (!sep->len)
        return rt_fail(rt, E_FORMAT, "empty separator");
    TRY(rt_charge(rt, n));
    at = str_find(jstr_str(self.s), jstr_str(sep), 0);
    if (from_right)
        TRY(str_rfind(rt, jstr_str(self.s), jstr_str(sep), n, &at));
    size_t cut[4] = {0, at, at == SIZE_MAX ? 0 : at + sep->len, n};
    if (at == SIZE_MAX)
        cut[1] = cut[2] = from_right ? 0 : n;
    for (int i = 0; i < 3; i++)
        TRY(push_sub(rt, l, self.s, cut[i], cut[i + 1]));
    *out = value_tuple(l);
    return 0;
}
static int str_partition(struct rt *rt, struct value self, const struct args *args,
                         struct value *out)
{
    return part(rt, "partition", self, args, false, out);
}
static int str_rpartition(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    return part(rt, "rpartition", self, args, true, out);
}

/* start and end (characters, negative from the end) as bytes; false when start lies past the end.
 */
static int sub_range(struct rt *rt, const char *name, struct jstr *s, struct value start,
                     struct value end, size_t *from, size_t *to, bool *inside)
{
    int64_t n = (int64_t)jstr_chars(s), a = 0, z = n;
    if (start.type != V_NONE)
        TRY(arg_int(rt, name, start, 0, &a));
    if (end.type != V_NONE)
        TRY(arg_int(rt, name, end, n, &z));
    if (a < 0)
        a = MAX_OF(a + n, 0);
    if (z < 0)
        z = MAX_OF(z + n, 0);
    z = MIN_OF(z, n);
    *inside = a <= z;
    TRY(rt_charge(rt, s->len));
    *from = jstr_byte_of(s, (size_t)a);
    *to = *inside ? jstr_byte_of(s, (size_t)z) : *from;
    return 0;
}

static bool has_affix(struct str s, const struct jstr *x, bool at_end)
{
    return at_end ? str_has_suffix(s, jstr_str(x)) : str_has_prefix(s, jstr_str(x));
}

static int affix(struct rt *rt, const char *name, struct value self, const struct args *args,
                 bool at_end, struct value *out)
{
    struct value v[3];
    size_t from, to;
    bool inside, r = false;
    TRY(bind_args(rt, name, "prefix |start end", args, v));
    TRY(sub_range(rt, name, self.s, v[1], v[2], &from, &to, &inside));
    struct str s = {self.s->p + from, to - from};
    if (v[0].type != V_STR && v[0].type != V_TUPLE)
        return rt_fail(rt, E_FORMAT, "%s first arg must be str or a tuple of str, not %s", name,
                       type_name(v[0]));
    if (v[0].type == V_STR)
        r = inside && has_affix(s, v[0].s, at_end);
    for (uint32_t i = 0; v[0].type == V_TUPLE && i < v[0].l->n && !r; i++) {
        if (v[0].l->v[i].type != V_STR)
            return rt_fail(rt, E_FORMAT, "tuple for %s must only contain str, not %s", name,
                           type_name(v[0].l->v[i]));
        r = inside && has_affix(s, v[0].l->v[i].s, at_end);
    }
    *out = value_bool(r);
    return 0;
}
static int str_startswith(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    return affix(rt, "startswith", self, args, false, out);
}
static int str_endswith(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    return affix(rt, "endswith", self, args, true, out);
}

static int remove_affix(struct rt *rt, const char *name, struct value self, const struct args *args,
                        bool at_end, struct value *out)
{
    struct value v;
    struct jstr *x;
    TRY(bind_args(rt, name, "prefix", args, &v));
    TRY(arg_str(rt, name, v, &x));
    bool has = has_affix(jstr_str(self.s), x, at_end);
    return str_sub(rt, self.s, has && !at_end ? x->len : 0,
                   self.s->len - (has && at_end ? x->len : 0), out);
}
static int str_removeprefix(struct rt *rt, struct value self, const struct args *args,
                            struct value *out)
{
    return remove_affix(rt, "removeprefix", self, args, false, out);
}
static int str_removesuffix(struct rt *rt, struct value self, const struct args *args,
                            struct value *out)
{
    return remove_affix(rt, "removesuffix", self, args, true, out);
}

/* find, rfind, index, rindex. */
static int find_any(struct rt *rt, const char *name, struct value self, const struct args *args,
                    bool from_right, bool must, struct value *out)
{
    struct value v[3];
    struct jstr *x;
    size_t from, to, at = SIZE_MAX;
    bool inside;
    TRY(bind_args(rt, name, "sub |start end", args, v));
    TRY(arg_str(rt, name, v[0], &x));
    TRY(sub_range(rt, name, self.s, v[1], v[2], &from, &to, &inside));
    struct str s = {self.s->p + from, to - from};
    if (inside && from_right)
        TRY(str_rfind(rt, s, jstr_str(x), s.len, &at));
    else if (inside)
        at = str_find(s, jstr_str(x), 0);
    if (at == SIZE_MAX && must)
        return rt_fail(rt, E_FORMAT, "substring not found");
    *out = value_int(at == SIZE_MAX ? -1 : (int64_t)char_count(self.s->p, from + at));
    return 0;
}
static int str_find_(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return find_any(rt, "find", self, args, false, false, out);
}
static int str_rfind_(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return find_any(rt, "rfind", self, args, true, false, out);
}
static int str_index(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return find_any(rt, "index", self, args, false, true, out);
}
static int str_rindex(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return find_any(rt, "rindex", self, args, true, true, out);
}

static int str_count(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v[3];
    struct jstr *x;
    size_t from, to;
    bool inside;
    int64_t n = 0;
    TRY(bind_args(rt, "count", "sub |start end", args, v));
    TRY(arg_str(rt, "count", v[0], &x));
    TRY(sub_range(rt, "count", self.s, v[1], v[2], &from, &to, &inside));
    struct str s = {self.s->p + from, to - from};
    if (inside && !x->len)
        n = (int64_t)char_count(s.p, s.len) + 1;
    for (size_t at = 0; inside && x->len && (at = str_find(s, jstr_str(x), at)) != SIZE_MAX;
         at += x->len)
        n++;
    *out = value_int(n);
    return 0;
}

int str_replace(struct rt *rt, const struct jstr *s, const struct jstr *old, const struct jstr *new,
                int64_t max, struct value *out)
{
    struct sb b;
    size_t pos = 0;
    TRY(rt_charge(rt, s->len));
    sb_init(&b, rt);
    for (int64_t n = 0; (max < 0 || n < max) && !b.failed; n++) {
        size_t at = old->len ? str_find(jstr_str(s), jstr_str(old), pos) : pos;
        if (at == SIZE_MAX)
            break;
        sb_sub(&b, s, pos, at);
        sb_str(&b, new);
        TRY(rt_step(rt, 1));
        pos = at + old->len;
        if (!old->len) { /* between all characters */
            if (at >= s->len) {
                pos = s->len;
                break;
            }
            char_next(s->p, s->len, &pos);
            sb_sub(&b, s, at, pos);
        }
    }
    sb_sub(&b, s, pos, s->len);
    return finish(&b, s, out);
}

static int str_replace_(struct rt *rt, struct value self, const struct args *args,
                        struct value *out)
{
    struct value v[3];
    struct jstr *old, *new;
    int64_t max;
    if (args->n_kw)
        return rt_fail(rt, E_FORMAT, "replace() takes no keyword arguments");
    TRY(bind_args(rt, "replace", "old new |count", args, v));
    TRY(arg_str(rt, "replace", v[0], &old));
    TRY(arg_str(rt, "replace", v[1], &new));
    TRY(arg_int(rt, "replace", v[2], -1, &max));
    if (self.s->is_markup) {
        TRY(escape_html(rt, v[0], &v[0]));
        TRY(escape_html(rt, v[1], &v[1]));
        old = v[0].s;
        new = v[1].s;
    }
    return str_replace(rt, self.s, old, new, max, out);
}

static int str_join(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v;
    struct jlist *l;
    struct sb b;
    TRY(bind_args(rt, "join", "iterable", args, &v));
    if (v.type == V_NONE || is_num(v))
        return rt_fail(rt, E_FORMAT, "can only join an iterable");
    TRY(list_from(rt, v, &l));
    sb_init(&b, rt);
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            sb_str(&b, self.s);
        if (l->v[i].type != V_STR)
            return rt_fail(rt, E_FORMAT, "sequence item %u: expected str instance, %s found", i,
                           type_name(l->v[i]));
        if (self.s->is_markup)
            TRY(escape_html(rt, l->v[i], &l->v[i]));
        sb_str(&b, l->v[i].s);
    }
    return finish(&b, self.s, out);
}

/* left: padding before; both: Python's uneven rule of center. */
static int pad(struct rt *rt, const char *name, struct value self, const struct args *args,
               bool left, bool right, struct value *out)
{
    struct value v[2];
    struct jstr *fill;
    int64_t width, n = (int64_t)jstr_chars(self.s), before_n = 0;
    struct sb b;
    TRY(bind_args(rt, name, "width |fillchar", args, v));
    TRY(arg_int(rt, name, v[0], 0, &width));
    TRY(arg_str(rt, name, v[1], &fill));
    if (fill && jstr_chars(fill) != 1)
        return rt_fail(rt, E_FORMAT, "The fill character must be exactly one character long");
    int64_t room = width > n ? width - n : 0;
    before_n = left && right ? room / 2 + (room & width & 1) : left ? room : 0;
    sb_init(&b, rt);
    const char *p = fill ? fill->p : " ";
    size_t len = fill ? fill->len : 1;
    bool in = fill && jstr_has_input(fill);
    sb_fill(&b, p, len, (size_t)before_n, in);
    sb_str(&b, self.s);
    sb_fill(&b, p, len, (size_t)(room - before_n), in);
    return finish(&b, self.s, out);
}
static int str_center(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return pad(rt, "center", self, args, true, true, out);
}
static int str_ljust(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return pad(rt, "ljust", self, args, false, true, out);
}
static int str_rjust(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return pad(rt, "rjust", self, args, true, false, out);
}

static int str_zfill(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    struct value v;
    int64_t width, n = (int64_t)jstr_chars(self.s);
    struct sb b;
    TRY(bind_args(rt, "zfill", "width", args, &v));
    TRY(arg_int(rt, "zfill", v, 0, &width));
    size_t sign = self.s->len && (self.s->p[0] == '-' || self.s->p[0] == '+');
    sb_init(&b, rt);
    sb_sub(&b, self.s, 0, sign);
    sb_fill(&b, "0", 1, (size_t)MAX_OF(width - n, 0), false);
    sb_sub(&b, self.s, sign, self.s->len);
    return finish(&b, self.s, out);
}

static int str_expandtabs(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    struct value v;
    int64_t size, col = 0;
    struct sb b;
    TRY(bind_args(rt, "expandtabs", "|tabsize", args, &v));
    TRY(arg_int(rt, "expandtabs", v, 8, &size));
    TRY(rt_charge(rt, self.s->len));
    sb_init(&b, rt);
    for (size_t i = 0; i < self.s->len && !b.failed;) {
        size_t at = i;
        uint32_t c = char_next(self.s->p, self.s->len, &i);
        if (c == '\t') {
            int64_t n = size > 0 ? size - col % size : 0;
            sb_fill(&b, " ", 1, (size_t)n, jstr_input_at(self.s, at));
            col += n;
        } else {
            sb_sub(&b, self.s, at, i);
            col = c == '\n' || c == '\r' ? 0 : col + 1;
        }
    }
    return finish(&b, self.s, out);
}

/* Every character satisfies is(), and there is one. */
static int all_chars(struct rt *rt, struct value self, const struct args *args,
                     bool (*is)(uint32_t), bool if_empty, struct value *out)
{
    bool r = self.s->len > 0 || if_empty;
    TRY(no_args(rt, "is…", args));
    TRY(rt_charge(rt, self.s->len));
    for (size_t i = 0; r && i < self.s->len;)
        r = is(char_next(self.s->p, self.s->len, &i));
    *out = value_bool(r);
    return 0;
}
static bool is_alnum(uint32_t c)
{
    return char_is_alpha(c) || char_is_decimal(c) || char_is_digit(c) || char_is_numeric(c);
}
static bool is_ascii(uint32_t c)
{
    return c < 0x80;
}
#define ALL_CHARS(name, is, if_empty)                                                              \
    static int name(struct rt *rt, struct value self, const struct args *args, struct value *out)  \
    {                                                                                              \
        return all_chars(rt, self, args, is, if_empty, out);                                       \
    }
ALL_CHARS(str_isalpha, char_is_alpha, false)
ALL_CHARS(str_isalnum, is_alnum, false)
ALL_CHARS(str_isdigit, char_is_digit, false)
ALL_CHARS(str_isdecimal, char_is_decimal, false)
ALL_CHARS(str_isnumeric, char_is_numeric, false)
ALL_CHARS(str_isspace, is_py_space, false)
ALL_CHARS(str_isascii, is_ascii, true)
ALL_CHARS(str_isprintable, char_is_printable, true)

bool jstr_is_case(const struct jstr *s, bool upper)
{
    bool seen = false;
    for (size_t i = 0; i < s->len;) {
        uint32_t c = char_next(s->p, s->len, &i);
        if (!char_is_cased(c))
            continue;
        if (upper ? !char_is_upper(c) : !char_is_lower(c))
            return false;
        seen = true;
    }
    return seen;
}
static int str_islower(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    TRY(no_args(rt, "islower", args));
    TRY(rt_charge(rt, self.s->len));
    *out = value_bool(jstr_is_case(self.s, false));
    return 0;
}
static int str_isupper(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    TRY(no_args(rt, "isupper", args));
    TRY(rt_charge(rt, self.s->len));
    *out = value_bool(jstr_is_case(self.s, true));
    return 0;
}
static int str_istitle(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    bool after = false, seen = false, ok = true;
    TRY(no_args(rt, "istitle", args));
    TRY(rt_charge(rt, self.s->len));
    for (size_t i = 0; ok && i < self.s->len;) {
        uint32_t c = char_next(self.s->p, self.s->len, &i);
        bool cased = char_is_cased(c);
        ok = !cased || char_is_lower(c) == after;
        after = cased;
        seen |= cased;
    }
    *out = value_bool(ok && seen);
    return 0;
}
static int str_isidentifier(struct rt *rt, struct value self, const struct args *args,
                            struct value *out)
{
    bool ok = self.s->len > 0;
    TRY(no_args(rt, "isidentifier", args));
    TRY(rt_charge(rt, self.s->len));
    for (size_t i = 0; ok && i < self.s->len;) {
        size_t at = i;
        uint32_t c = char_next(self.s->p, self.s->len, &i);
        ok = c == '_' || char_is_alpha(c) || (at > 0 && char_is_decimal(c));
    }
    *out = value_bool(ok);
    return 0;
}

static int str_format(struct rt *rt, struct value self, const struct args *args, struct value *out)
{
    return format_brace(rt, self.s, args, out);
}
static int str_format_map(struct rt *rt, struct value self, const struct args *args,
                          struct value *out)
{
    struct value v;
    TRY(bind_args(rt, "format_map", "mapping", args, &v));
    if (v.type != V_DICT)
        return rt_fail(rt, E_FORMAT, "format_map() argument must be a mapping, not %s",
                       type_name(v));
    struct args a = {.kw = rt_alloc(rt, v.d->n + 1, sizeof(*a.kw))};
    if (!a.kw)
        return -rt->err->code;
    for (uint32_t i = 0; i < v.d->n; i++)
        if (v.d->items[i].key.type == V_STR)
            a.kw[a.n_kw++] = (struct kwarg){v.d->items[i].key.s, v.d->items[i].val};
    return format_brace(rt, self.s, &a, out);
}

static int str_unsupported(struct rt *rt, struct value self, const struct args *args,
                           struct value *out)
{
    (void)self, (void)args, (void)out;
    return rt_fail(rt, E_UNSUPPORTED,
                   "encode, maketrans and translate of strings are not supported");
}

const struct method STR_METHODS[] = {
    {"strip", str_strip},
    {"split", str_split},
    {"startswith", str_startswith},
    {"endswith", str_endswith},
    {"lstrip", str_lstrip},
    {"rstrip", str_rstrip},
    {"replace", str_replace_},
    {"upper", str_upper},
    {"lower", str_lower},
    {"title", str_title},
    {"capitalize", str_capitalize},
    {"join", str_join},
    {"find", str_find_},
    {"rfind", str_rfind_},
    {"index", str_index},
    {"rindex", str_rindex},
    {"count", str_count},
    {"rsplit", str_rsplit},
    {"splitlines", str_splitlines},
    {"partition", str_partition},
    {"rpartition", str_rpartition},
    {"removeprefix", str_removeprefix},
    {"removesuffix", str_removesuffix},
    {"center", str_center},
    {"ljust", str_ljust},
    {"rjust", str_rjust},
    {"zfill", str_zfill},
    {"expandtabs", str_expandtabs},
    {"swapcase", str_swapcase},
    {"casefold", str_casefold},
    {"isalpha", str_isalpha},
    {"isalnum", str_isalnum},
    {"isdigit", str_isdigit},
    {"isdecimal", str_isdecimal},
    {"isnumeric", str_isnumeric},
    {"isspace", str_isspace},
    {"isascii", str_isascii},
    {"isprintable", str_isprintable},
    {"islower", str_islower},
    {"isupper", str_isupper},
    {"istitle", str_istitle},
    {"isidentifier", str_isidentifier},
    {"format", str_format},
    {"format_map", str_format_map},
    {"encode", str_unsupported},
    {"maketrans", str_unsupported},
    {"translate", str_unsupported},
    {NULL, NULL},
};
