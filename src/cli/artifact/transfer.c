/* SPDX-License-Identifier: Apache-2.0 */
/* Implements transfer.h: what the lines say.  What is drawn of it is transfer_draw.c's. */
#include "cli/artifact/transfer_impl.h"

#include <string.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/table.h"
#include "lib/base/mem.h"
#include "lib/sys/config.h"

#define LAYERS_MAX    8192u
#define SAMPLE_MS     100
#define SPEED_WINDOW  5000
#define DIGEST_PREFIX "sha256:"
#define DIGEST_DIGITS 64

void transfer_begin(struct transfer *t, enum transfer_style style, const char *what)
{
    int fd = style == TRANSFER_DOCKER ? STDOUT_FILENO : STDERR_FILENO;
    *t = (struct transfer){.style = style, .began_ms = progress_now_ms()};
    t->is_terminal = isatty(fd) && config_can_edit_lines();
    t->has_color = t->is_terminal && config_wants_color();
    snprintf(t->what, sizeof(t->what), "%s", what);
}

void transfer_release(struct transfer *t)
{
    mem_free(t->layers);
    mem_free(t->name);
}

static struct transfer_layer *layer_of(struct transfer *t, const char *id)
{
    for (unsigned i = 0; i < t->n_layers; i++) {
        if (strncmp(t->layers[i].id, id, OCI_DIGEST_CHARS) == 0)
            return &t->layers[i];
    }
    if (t->n_layers == LAYERS_MAX)
        return NULL;
    if (t->n_layers == t->n_held) {
        struct err ignored = ERR_INIT;
        unsigned n = t->n_held ? t->n_held * 2 : 16;
        struct transfer_layer *more = mem_try_resize(t->layers, n, sizeof(*more), &ignored);
        if (!more)
            return NULL;
        t->layers = more;
        t->n_held = n;
    }
    struct transfer_layer *l = &t->layers[t->n_layers++];
    *l = (struct transfer_layer){.size = 0};
    snprintf(l->id, sizeof(l->id), "%s", id);
    return l;
}

uint64_t transfer_done(const struct transfer *t)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < t->n_layers; i++)
        sum += t->layers[i].current;
    return t->total ? MIN_OF(sum, t->total) : sum;
}

/* Keeps a sample every 100 ms, the oldest ones leave. */
static void take_sample(struct transfer *t)
{
    int64_t now = progress_now_ms();
    if (t->n_samples && now - t->samples[t->n_samples - 1].at_ms < SAMPLE_MS)
        return;
    unsigned gone = 0;
    while (gone + 1 < t->n_samples && now - t->samples[gone].at_ms > SPEED_WINDOW)
        gone++;
    gone = t->n_samples == TRANSFER_SAMPLES ? MAX_OF(gone, 1) : gone;
    memmove(t->samples, t->samples + gone, (t->n_samples - gone) * sizeof(t->samples[0]));
    t->n_samples -= gone;
    t->samples[t->n_samples].at_ms = now;
    t->samples[t->n_samples++].done = transfer_done(t);
}

uint64_t transfer_speed(const struct transfer *t)
{
    if (t->n_samples < 2)
        return 0;
    int64_t span = t->samples[t->n_samples - 1].at_ms - t->samples[0].at_ms;
    uint64_t from = t->samples[0].done, to = t->samples[t->n_samples - 1].done;
    return span > 0 && to > from ? (to - from) * 1000 / (uint64_t)span : 0;
}

const char *transfer_sum(const struct transfer *t, char ret[96])
{
    char bytes[16], rate[16], span[32];
    uint64_t all = t->total ? t->total : transfer_done(t);
    int64_t ms = MAX_OF(progress_now_ms() - t->began_ms, 1);
    text_bytes(all, bytes);
    text_bytes(all * 1000 / (uint64_t)ms, rate);
    snprintf(ret, 96, "%s in %s, %s/s", bytes,
             ms < 1000 ? "under a second" : text_span((uint64_t)ms / 1000, span), rate);
    return ret;
}

static uint64_t count_of(const json_t *o, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > 0 ? (uint64_t)n : 0;
}

/* The first digest in a text. */
static void take_digest(struct transfer *t, const char *s)
{
    const char *at = s ? strstr(s, DIGEST_PREFIX) : NULL;
    if (at && strspn(at + sizeof(DIGEST_PREFIX) - 1, "0123456789abcdef") >= DIGEST_DIGITS)
        snprintf(t->id, sizeof(t->id), "%.*s", (int)OCI_DIGEST_CHARS, at);
}

static void take_success(struct transfer *t, const json_t *line, const char *message)
{
    const char *name = json_string_value(json_object_get(line, "name"));
    take_digest(t, message);
    take_digest(t, json_string_value(json_object_get(line, "id")));
    t->was_cached = message && strncmp(message, "Using cached model", 18) == 0;
    if (name && *name) {
        mem_free(t->name);
        t->name = mem_dup(name, strlen(name));
    }
}

bool transfer_line(void *ctx, const json_t *line)
{
    struct transfer *t = ctx;
    const char *type = json_string_value(json_object_get(line, "type"));
    const char *message = json_string_value(json_object_get(line, "message"));
    const char *mode = json_string_value(json_object_get(line, "mode"));
    const json_t *layer = json_object_get(line, "layer");
    const char *id = json_string_value(json_object_get(layer, "id"));
    t->is_push = mode && strcmp(mode, "push") == 0;
    if (t->style == TRANSFER_JSON) {
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
    }
    if (message)
        snprintf(t->message, sizeof(t->message), "%s", message);
    if (type && strcmp(type, "success") == 0) {
        take_success(t, line, message);
    } else if (type && strcmp(type, "warning") == 0) {
        transfer_note(t, message ? message : "");
    } else if (type && strcmp(type, "progress") == 0) {
        t->total = count_of(line, "total") ? count_of(line, "total") : t->total;
        struct transfer_layer *l = id && *id ? layer_of(t, id) : NULL;
        if (l) {
            l->size = count_of(layer, "size");
            l->current = MIN_OF(count_of(layer, "current"), l->size);
        } else if (message) {
            snprintf(t->note, sizeof(t->note), "%s", message);
        }
        take_sample(t);
        transfer_show(t);
    }
    return !ferror(stdout);
}

void transfer_sent(struct transfer *t, const char *id, uint64_t done, uint64_t size, uint64_t total)
{
    struct transfer_layer *l = layer_of(t, id);
    t->is_push = true;
    t->total = total;
    if (l) {
        l->size = size;
        l->current = done;
    }
    take_sample(t);
    transfer_show(t);
}

void transfer_tick(void *ctx)
{
    take_sample(ctx);
    transfer_show(ctx);
}
