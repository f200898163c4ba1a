/* SPDX-License-Identifier: Apache-2.0 */
/* Implements metrics.h.  The format: prometheus.io, "Exposition formats", text format 0.0.4. */
#include "daemon/watch/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/codec/json.h"

#define SHEET_MAX_BYTES (64u << 20)

struct row {
    const char *name;
    enum metric_set set;
    enum metric_type type;
    const char *labels;
    const double *bounds; /* ends with INFINITY */
    const char *help;
};

#define BUCKETS_NONE NULL
static const double BUCKETS_LATENCY[] = {.005, .01, .025, .05, .1, .25, .5,  1,
                                         2.5,  5,   10,   30,  60, 120, 300, INFINITY};
static const double BUCKETS_TOKEN[] = {.001, .0025, .005, .01, .025, .05, .075,
                                       .1,   .15,   .2,   .3,  .5,   1,   INFINITY};

static const struct row rows[METRIC_N] = {
#define METRIC(id, name, set, type, labels, buckets, help)                                         \
    [METRIC_##id] = {name, METRIC_##set, METRIC_##type, labels, BUCKETS_##buckets, help},
#include "daemon/watch/metrics.def"
#undef METRIC
};

static size_t count_labels(const char *labels)
{
    size_t n = *labels != '\0';
    for (; *labels; labels++)
        n += *labels == ',';
    return n;
}

static const char *const *others(void)
{
    static const char *const names[METRIC_MAX_LABELS] = {"other", "other", "other", "other",
                                                         "other"};
    return names;
}

void metrics_init(struct metrics *m)
{
    *m = (struct metrics){.n = 0};
    pthread_mutex_init(&m->lock, NULL);
    map_init(&m->map);
}

void metrics_release(struct metrics *m)
{
    for (size_t i = 0; i < m->n; i++) {
        mem_free(m->series[i].key);
        mem_free(m->series[i].hist);
    }
    mem_free(m->series);
    map_release(&m->map);
    pthread_mutex_destroy(&m->lock);
}

#define KEY_MAX_BYTES (2 + METRIC_MAX_LABELS * (METRIC_VALUE_BYTES + 1))

/* Two bytes of id, so that none of them is a NUL, then the values with their NULs. */
static size_t make_key(enum metric_id id, const char *const *labels, char out[KEY_MAX_BYTES])
{
    size_t len = 2, n = count_labels(rows[id].labels);
    out[0] = (char)(1 + id / 100);
    out[1] = (char)(1 + id % 100);
    for (size_t i = 0; i < n; i++) {
        size_t bytes = strnlen(labels[i], METRIC_VALUE_BYTES);
        memcpy(out + len, labels[i], bytes);
        out[len + bytes] = '\0';
        len += bytes + 1;
    }
    return len;
}

static struct metric_series *series_new(struct metrics *m, enum metric_id id, struct str key)
{
    struct err err;
    uint32_t old;
    if (m->n == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 64;
        void *grown = mem_try_resize(m->series, cap, sizeof(*m->series), &err);
        if (!grown)
            return NULL;
        m->series = grown;
        m->cap = cap;
    }
    struct metric_hist *hist = NULL;
    char *own = mem_try_alloc(key.len, 1, &err);
    if (own && rows[id].type == METRIC_HISTOGRAM && !(hist = mem_try_alloc(1, sizeof(*hist), &err)))
        mem_free(own);
    else if (own) {
        memcpy(own, key.p, key.len);
        if (map_try_put(&m->map, (struct str){own, key.len}, (uint32_t)m->n, &old, &err) == 0) {
            m->series[m->n] = (struct metric_series){.id = id, .key = own, .hist = hist};
            return &m->series[m->n++];
        }
        mem_free(own);
        mem_free(hist);
    }
    return NULL;
}

/* NULL when memory is out: then it is not counted. */
static struct metric_series *series_locked(struct metrics *m, enum metric_id id,
                                           const char *const *labels)
{
    char key[KEY_MAX_BYTES];
    size_t n = make_key(id, labels, key);
    uint32_t i = map_get(&m->map, (struct str){key, n});
    if (i == MAP_NONE && m->n >= METRIC_MAX_SERIES) {
        n = make_key(id, others(), key);
        i = map_get(&m->map, (struct str){key, n});
    }
    return i != MAP_NONE ? &m->series[i] : series_new(m, id, (struct str){key, n});
}

void metrics_add(struct metrics *m, enum metric_id id, const char *const *labels, int64_t delta)
{
    pthread_mutex_lock(&m->lock);
    struct metric_series *s = series_locked(m, id, labels);
    if (s)
        s->value += delta;
    pthread_mutex_unlock(&m->lock);
}

void metrics_observe(struct metrics *m, enum metric_id id, const char *const *labels, double value)
{
    const double *bounds = rows[id].bounds;
    size_t i = 0;
    if (!(value >= 0) || isinf(value))
        return;
    while (value > bounds[i])
        i++;
    pthread_mutex_lock(&m->lock);
    struct metric_series *s = series_locked(m, id, labels);
    if (s) {
        s->hist->counts[i]++;
        s->hist->n++;
        s->hist->sum += value;
    }
    pthread_mutex_unlock(&m->lock);
}

void metric_sheet_init(struct metric_sheet *s)
{
    *s = (struct metric_sheet){.err = ERR_INIT};
    arena_init(&s->arena, SHEET_MAX_BYTES);
    for (size_t i = 0; i < METRIC_N; i++)
        s->last[i] = &s->first[i];
}

void metric_sheet_release(struct metric_sheet *s)
{
    arena_release(&s->arena);
}

static struct metric_sample *sample_new(struct metric_sheet *s, enum metric_id id)
{
    struct metric_sample *x = s->err.code ? NULL : arena_try_alloc(&s->arena, sizeof(*x), &s->err);
    if (x) {
        *s->last[id] = x;
        s->last[id] = &x->next;
    }
    return x;
}

static struct metric_sample *sample_put(struct metric_sheet *s, enum metric_id id,
                                        const char *const *labels, double value)
{
    struct metric_sample *x = sample_new(s, id);
    size_t n = count_labels(rows[id].labels);
    for (size_t i = 0; x && i < n; i++) {
        x->labels[i] =
            arena_try_dup(&s->arena, labels[i], strnlen(labels[i], METRIC_VALUE_BYTES), &s->err);
        if (!x->labels[i])
            x->labels[i] = "";
    }
    if (x)
        x->value = value;
    return x;
}

void metric_sheet_put(struct metric_sheet *s, enum metric_id id, const char *const *labels,
                      double value)
{
    sample_put(s, id, labels, value);
}

static void collect_one(struct metric_sheet *s, const struct metric_series *from)
{
    const char *labels[METRIC_MAX_LABELS];
    size_t n = count_labels(rows[from->id].labels);
    const char *p = from->key + 2;
    for (size_t i = 0; i < n; i++, p += strlen(p) + 1)
        labels[i] = p;
    struct metric_sample *x = sample_put(s, from->id, labels, (double)from->value);
    if (x && from->hist) {
        struct metric_hist *hist = arena_try_alloc(&s->arena, sizeof(*hist), &s->err);
        if (hist)
            *hist = *from->hist;
        x->hist = hist;
    }
}

void metric_sheet_collect(struct metric_sheet *s, struct metrics *m)
{
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n; i++)
        collect_one(s, &m->series[i]);
    pthread_mutex_unlock(&m->lock);
}

void metric_sheet_alias(struct metric_sheet *s, enum metric_id from, enum metric_id to)
{
    for (const struct metric_sample *x = s->first[from]; x; x = x->next) {
        struct metric_sample *y = sample_new(s, to);
        if (!y)
            return;
        struct metric_sample *next = y->next;
        *y = *x;
        y->next = next;
    }
}

/* As the format wants it: backslash and line end escaped, in label values the quote too. */
static void put_escaped(struct buf *out, const char *s, bool quoted)
{
    for (; *s; s++) {
        if (*s == '\\')
            buf_append_str(out, "\\\\");
        else if (*s == '\n')
            buf_append_str(out, "\\n");
        else if (*s == '"' && quoted)
            buf_append_str(out, "\\\"");
        else
            buf_append_char(out, *s);
    }
}

/* {a="…",le="…"}; nothing when there is none.  le: NULL, or a bucket's bound. */
static void put_labels(struct buf *out, const struct row *row, const char *const *values,
                       const char *le)
{
    const char *names = row->labels, *sep = "{";
    for (size_t i = 0; *names; i++) {
        size_t n = strcspn(names, ",");
        buf_append_str(out, sep);
        buf_append(out, names, n);
        buf_append_str(out, "=\"");
        put_escaped(out, values[i], true);
        buf_append_char(out, '"');
        sep = ",";
        names += n + (names[n] == ',');
    }
    if (le)
        buf_printf(out, "%sle=\"%s\"", sep, le);
    if (le || *row->labels)
        buf_append_char(out, '}');
}

static void put_value(struct buf *out, double v)
{
    if (v == floor(v) && fabs(v) < 1e15) {
        buf_printf(out, " %.0f\n", v);
    } else {
        buf_append_char(out, ' ');
        json_put_num(out, v);
        buf_append_char(out, '\n');
    }
}

static void put_hist(struct buf *out, const struct row *row, const struct metric_sample *x)
{
    static const struct metric_hist none;
    const struct metric_hist *h = x->hist ? x->hist : &none;
    uint64_t below = 0;
    for (size_t i = 0;; i++) {
        char le[32] = "+Inf";
        if (!isinf(row->bounds[i]))
            snprintf(le, sizeof(le), "%g", row->bounds[i]);
        below += h->counts[i];
        buf_printf(out, "%s_bucket", row->name);
        put_labels(out, row, x->labels, le);
        put_value(out, (double)below);
        if (isinf(row->bounds[i]))
            break;
    }
    buf_printf(out, "%s_sum", row->name);
    put_labels(out, row, x->labels, NULL);
    put_value(out, h->sum);
    buf_printf(out, "%s_count", row->name);
    put_labels(out, row, x->labels, NULL);
    put_value(out, (double)h->n);
}

int metric_sheet_write(struct metric_sheet *s, enum metric_set set, struct buf *out,
                       struct err *err)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    static const struct metric_sample zero;
    if (s->err.code)
        return err_set(err, (enum err_code)s->err.code, "collecting metrics: %s", s->err.msg);
    for (size_t i = 0; i < METRIC_N; i++) {
        const struct row *row = &rows[i];
        const struct metric_sample *x = s->first[i];
        if (row->set > set)
            continue;
        buf_printf(out, "# HELP %s ", row->name);
        put_escaped(out, row->help, false);
        buf_printf(out, "\n# TYPE %s %s\n", row->name, types[row->type]);
        if (!x && !*row->labels)
            x = &zero;
        for (; x; x = x->next) {
            if (row->type == METRIC_HISTOGRAM) {
                put_hist(out, row, x);
                continue;
            }
            buf_append_str(out, row->name);
            put_labels(out, row, x->labels, NULL);
            put_value(out, x->value);
        }
    }
    return buf_status(out, "the metrics", err);
}
