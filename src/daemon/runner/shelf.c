/* SPDX-License-Identifier: Apache-2.0 */
/* Implements shelf.h. */
#include "daemon/runner/shelf.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "daemon/store/model.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"

/* What a manifest and its config say: it never changes. */
struct card {
    struct card *next;
    char digest[OCI_DIGEST_CHARS + 1];
    bool is_seen; /* by the scan in progress */
    uint64_t bytes;
    int64_t created_unix;
    struct model_facts facts;
};

struct shelf {
    struct store *store;
    char *default_registry; /* owned */
    pthread_mutex_t lock;   /* guards the cards, and is held over a scan */
    struct card *cards;
    bool has_told;
};

struct shelf *shelf_new(struct store *s, const char *default_registry)
{
    struct shelf *f = mem_alloc(sizeof(*f));
    f->store = s;
    if (default_registry && default_registry[0])
        f->default_registry = mem_dup(default_registry, strlen(default_registry));
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void shelf_free(struct shelf *f)
{
    if (!f)
        return;
    for (struct card *c = f->cards, *next; c; c = next) {
        next = c->next;
        mem_free(c);
    }
    pthread_mutex_destroy(&f->lock);
    mem_free(f->default_registry);
    mem_free(f);
}

/* The trained context as GGUF metadata has it; 0: unknown. */
static uint32_t trained_context(const struct oci_config *c)
{
    char key[128];
    snprintf(key, sizeof(key), "%.64s.context_length", c->architecture);
    for (uint32_t i = 0; i < c->gguf.n; i++) {
        unsigned n = 0;
        if (strcmp(c->gguf.items[i].key, key) == 0 && sscanf(c->gguf.items[i].value, "%u", &n) == 1)
            return n;
    }
    return 0;
}

static void card_fill(struct card *c, const struct store_model *m)
{
    const struct oci_config *cfg = &m->config;
    struct model_facts *f = &c->facts;
    uint32_t trained = trained_context(cfg);
    c->bytes = m->total_bytes;
    c->created_unix = m->created_unix;
    f->context_size = cfg->context_size;
    /* One that its packager chose counts as declared; the most that it was trained for does not. */
    f->declared_context = trained && cfg->context_size != trained ? cfg->context_size : 0;
    snprintf(f->format, sizeof(f->format), "%s", m->format);
    snprintf(f->arch, sizeof(f->arch), "%s", cfg->architecture);
    snprintf(f->quant, sizeof(f->quant), "%s", cfg->quantization);
    snprintf(f->parameters, sizeof(f->parameters), "%s", cfg->parameters);
    snprintf(f->size, sizeof(f->size), "%s", cfg->size);
}

/* NULL: it is no model, or damaged; the log says so once. */
static struct card *card_of(struct shelf *f, const char *digest)
{
    struct store_model m;
    struct err err = ERR_INIT;
    struct card *c = f->cards;
    while (c && strcmp(c->digest, digest) != 0)
        c = c->next;
    if (c) {
        c->is_seen = true;
        return c->facts.format[0] ? c : NULL;
    }
    c = mem_alloc(sizeof(*c));
    snprintf(c->digest, sizeof(c->digest), "%s", digest);
    if (store_model_read(f->store, digest, &m, &err) == 0)
        card_fill(c, &m);
    else
        log_warn("%.80s of the store is left out: %s", digest, err.msg);
    store_model_release(&m);
    c->is_seen = true;
    c->next = f->cards;
    f->cards = c;
    return c->facts.format[0] ? c : NULL;
}

static void forget_unseen(struct shelf *f)
{
    for (struct card **at = &f->cards; *at;) {
        struct card *c = *at;
        if (c->is_seen) {
            at = &c->next;
        } else {
            *at = c->next;
            mem_free(c);
        }
    }
}

static void put(const struct store_entry *e, const struct card *c, struct model_files_found *ret)
{
    const char *name = e->name[0] ? e->name : e->digest;
    struct model_file file = {.name = mem_dup(name, strlen(name)),
                              .path = mem_dup("", 0),
                              .bytes = c->bytes,
                              .modified_unix = c->created_unix,
                              .facts = c->facts};
    memcpy(file.digest, c->digest, sizeof(file.digest));
    if (!model_name_is_fit(str_from(name)) || !models_found_push(ret, &file))
        model_file_release(&file);
}

void shelf_scan(struct shelf *f, struct model_files_found *ret)
{
    struct store_list l;
    struct err err = ERR_INIT;
    if (!f->store)
        return;
    pthread_mutex_lock(&f->lock);
    if (store_list(f->store, &l, &err) < 0) {
        ret->keeps_stored = true;
        if (!f->has_told)
            log_error("the store cannot be read, its models stay as they were known: %s", err.msg);
        f->has_told = true;
        pthread_mutex_unlock(&f->lock);
        return;
    }
    f->has_told = false;
    for (struct card *c = f->cards; c; c = c->next)
        c->is_seen = false;
    for (size_t i = 0; i < l.n; i++) {
        const struct card *c = card_of(f, l.items[i].digest);
        if (c)
            put(&l.items[i], c, ret);
    }
    forget_unseen(f);
    pthread_mutex_unlock(&f->lock);
    store_list_release(&l);
}

/* The first of the names that point to digest, or digest itself. */
static int name_of(struct shelf *f, const char *digest, char ret[LIMIT_MODEL_NAME_BYTES + 1],
                   struct err *err)
{
    struct store_list l;
    const char *first = digest;
    int rc = store_list(f->store, &l, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < l.n; i++) {
        const struct store_entry *e = &l.items[i];
        if (strcmp(e->digest, digest) == 0 && e->name[0] &&
            (first == digest || strcmp(e->name, first) < 0))
            first = e->name;
    }
    snprintf(ret, LIMIT_MODEL_NAME_BYTES + 1, "%s", first);
    store_list_release(&l);
    return 0;
}

int shelf_find(struct shelf *f, const char *name, bool partial,
               char ret_name[LIMIT_MODEL_NAME_BYTES + 1], char ret_digest[OCI_DIGEST_CHARS + 1],
               struct err *err)
{
    struct buf full;
    if (!f->store)
        return err_set(err, E_NOTFOUND, "this daemon has no store");
    buf_init(&full, LIMIT_MODEL_NAME_BYTES);
    int rc =
        store_find(f->store, str_from(name), f->default_registry, partial, ret_digest, &full, err);
    if (rc == 0 && full.len)
        snprintf(ret_name, LIMIT_MODEL_NAME_BYTES + 1, "%s", buf_str(&full));
    else if (rc == 0)
        rc = name_of(f, ret_digest, ret_name, err);
    buf_release(&full);
    return rc;
}
