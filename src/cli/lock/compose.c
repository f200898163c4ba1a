/* SPDX-License-Identifier: Apache-2.0 */
/* Implements compose.h over libyaml, which is loaded (dlopen) at the first call: hardly any command
 * needs it.  libyaml composes the whole document; anchors are shared nodes there and expand to
 * nothing, and only a fixed depth of it is visited. */
#include "cli/lock/compose.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "lib/base/near.h"
#include "lib/sys/config.h"

#define MERGE_DEPTH     16 /* of << in << */
#define VALUE_MAX_BYTES 4096u
#define FLAGS_MAX       256u

static struct {
    int (*parser_initialize)(yaml_parser_t *p);
    void (*parser_set_input_string)(yaml_parser_t *p, const unsigned char *s, size_t n);
    int (*parser_load)(yaml_parser_t *p, yaml_document_t *d);
    void (*parser_delete)(yaml_parser_t *p);
    yaml_node_t *(*document_get_root_node)(yaml_document_t *d);
    yaml_node_t *(*document_get_node)(yaml_document_t *d, int i);
    void (*document_delete)(yaml_document_t *d);
} yaml;

static int load_yaml(struct err *err)
{
    static const struct {
        const char *name;
        void **to;
    } wanted[] = {
        {"yaml_parser_initialize", (void **)&yaml.parser_initialize},
        {"yaml_parser_set_input_string", (void **)&yaml.parser_set_input_string},
        {"yaml_parser_load", (void **)&yaml.parser_load},
        {"yaml_parser_delete", (void **)&yaml.parser_delete},
        {"yaml_document_get_root_node", (void **)&yaml.document_get_root_node},
        {"yaml_document_get_node", (void **)&yaml.document_get_node},
        {"yaml_document_delete", (void **)&yaml.document_delete},
    };
    if (yaml.parser_load)
        return 0;
    void *lib = dlopen("libyaml-0.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return err_set(err, E_UNSUPPORTED,
                       "Compose files are read with libyaml-0.so.2, which is not there: install "
                       "libyaml-0-2, or name the models on the command line");
    for (size_t i = ARRAY_LEN(wanted); i-- > 0;) {
        *wanted[i].to = dlsym(lib, wanted[i].name);
        if (!*wanted[i].to)
            return err_set(err, E_UNSUPPORTED, "libyaml has no %s: it is too old", wanted[i].name);
    }
    return 0;
}

struct file {
    const char *name;
    yaml_document_t *doc;
    compose_env_fn env;
    compose_note_fn note;
    void *ctx;
    json_t *models; /* owned by the caller */
};

static const char *text_of(const yaml_node_t *n)
{
    return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : "";
}

static const yaml_node_t *node(const struct file *f, int id)
{
    return yaml.document_get_node(f->doc, id);
}

static int wrong(const struct file *f, const yaml_node_t *at, const char *what, struct err *err)
{
    return err_set(err, E_INVALID, "%s:%zu:%zu: %s", f->name, at->start_mark.line + 1,
                   at->start_mark.column + 1, what);
}

/* The value of a key of a mapping, or of one it merges (<<); NULL: none. */
static const yaml_node_t *get(const struct file *f, const yaml_node_t *map, const char *key,
                              int depth)
{
    const yaml_node_t *found = NULL, *merged = NULL;
    if (!map || map->type != YAML_MAPPING_NODE || depth > MERGE_DEPTH)
        return NULL;
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const char *name = text_of(node(f, p->key));
        if (strcmp(name, key) == 0)
            found = node(f, p->value);
        else if (strcmp(name, "<<") == 0)
            merged = node(f, p->value);
    }
    if (found || !merged)
        return found;
    if (merged->type != YAML_SEQUENCE_NODE)
        return get(f, merged, key, depth + 1);
    for (const yaml_node_item_t *i = merged->data.sequence.items.start;
         !found && i < merged->data.sequence.items.top; i++)
        found = get(f, node(f, *i), key, depth + 1);
    return found;
}

/* --- ${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?message}, $NAME, $$ --- */

static int put_variable(const struct file *f, const yaml_node_t *at, const char *name,
                        const char *rest, size_t n_rest, struct buf *out, struct err *err)
{
    const char *value = f->env ? f->env(name) : NULL;
    bool empty_counts = n_rest && *rest == ':';
    rest += empty_counts;
    n_rest -= empty_counts;
    if (value && empty_counts && !*value)
        value = NULL;
    if (value)
        return buf_append_str(out, value);
    if (n_rest && *rest == '-')
        return buf_append(out, rest + 1, n_rest - 1);
    char what[256];
    snprintf(what, sizeof(what), "the variable %.64s is not set%s%.*s", name,
             n_rest > 1 && *rest == '?' ? ": " : "",
             n_rest > 1 && *rest == '?' ? (int)n_rest - 1 : 0, n_rest ? rest + 1 : "");
    return wrong(f, at, what, err);
}

/* A scalar with its variables put in. */
static int interpolate(const struct file *f, const yaml_node_t *at, struct buf *out,
                       struct err *err)
{
    const char *s = text_of(at);
    int rc = 0;
    while (*s && rc >= 0) {
        char name[65];
        bool braced = s[0] == '$' && s[1] == '{';
        const char *begin = s + 1 + braced;
        size_t n = 0;
        if (s[0] == '$' && s[1] == '$') {
            buf_append_char(out, '$');
            s += 2;
            continue;
        }
        while (s[0] == '$' && (isalnum((unsigned char)begin[n]) || begin[n] == '_') && n < 64)
            n++;
        if (s[0] != '$' || n == 0) {
            buf_append_char(out, *s++);
            continue;
        }
        snprintf(name, sizeof(name), "%.*s", (int)n, begin);
        const char *rest = begin + n, *end = braced ? strchr(rest, '}') : rest;
        if (!end)
            return wrong(f, at, "a '${' is not closed", err);
        rc = put_variable(f, at, name, rest, (size_t)(end - rest), out, err);
        s = end + braced;
    }
    if (rc < 0)
        return err->code ? -err->code : buf_status(out, "a value of the Compose file", err);
    return buf_status(out, "a value of the Compose file", err);
}

/* The string at a node (new reference), or NULL. */
static json_t *string_at(const struct file *f, const yaml_node_t *at, struct err *err)
{
    struct buf b;
    json_t *s = NULL;
    buf_init(&b, VALUE_MAX_BYTES);
    if (at->type != YAML_SCALAR_NODE)
        wrong(f, at, "here a text is wanted", err);
    else if (interpolate(f, at, &b, err) == 0 && !(s = json_stringn(buf_str(&b), b.len)))
        wrong(f, at, "the text is not valid UTF-8", err);
    buf_release(&b);
    return s;
}

/* --- one model --- */

static int take_size(const struct file *f, const yaml_node_t *at, json_t *m, struct err *err)
{
    json_t *s = string_at(f, at, err);
    uint64_t n = 0;
    struct err bad = ERR_INIT;
    if (!s)
        return -err->code;
    int rc = config_parse_number(json_string_value(s), 0, INT32_MAX, &n, &bad);
    json_decref(s);
    if (rc < 0)
        return wrong(f, at, "context_size is a whole number of tokens", err);
    json_object_set_new(m, "context_size", json_integer((json_int_t)n));
    return 0;
}

/* A list of texts, or one text that is a list of words. */
static int take_flags(const struct file *f, const yaml_node_t *at, json_t *m, struct err *err)
{
    json_t *flags = json_array();
    json_object_set_new(m, "runtime_flags", flags);
    if (at->type == YAML_SCALAR_NODE) {
        json_t *s = string_at(f, at, err);
        const char *w = s ? json_string_value(s) : "";
        while (*(w += strspn(w, " \t\n"))) {
            size_t n = strcspn(w, " \t\n");
            json_array_append_new(flags, json_stringn(w, n));
            w += n;
        }
        json_decref(s);
        return s ? 0 : -err->code;
    }
    if (at->type != YAML_SEQUENCE_NODE)
        return wrong(f, at, "runtime_flags is a list of texts", err);
    for (const yaml_node_item_t *i = at->data.sequence.items.start; i < at->data.sequence.items.top;
         i++) {
        json_t *s = string_at(f, node(f, *i), err);
        if (!s || json_array_size(flags) == FLAGS_MAX) {
            json_decref(s);
            return s ? wrong(f, at, "more flags than fit", err) : -err->code;
        }
        json_array_append_new(flags, s);
    }
    return 0;
}

/* Compose's keys of a model, those that articles write, and what is neither. */
static int check_keys(const struct file *f, const yaml_node_t *map, struct err *err)
{
    static const char *const keys[] = {"model", "context_size", "runtime_flags", "name"};
    static const char *const articles[] = {"driver", "gpus", "healthcheck"};
    char what[256];
    for (const yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top;
         p++) {
        const yaml_node_t *key = node(f, p->key);
        const char *name = text_of(key);
        bool is_known = strncmp(name, "x-", 2) == 0 || strcmp(name, "<<") == 0;
        bool is_article = false;
        for (size_t i = 0; i < ARRAY_LEN(keys); i++)
            is_known |= strcmp(name, keys[i]) == 0;
        for (size_t i = 0; i < ARRAY_LEN(articles); i++)
            is_article |= strcmp(name, articles[i]) == 0;
        if (is_known)
            continue;
        const char *near = near_name(name, keys, ARRAY_LEN(keys));
        snprintf(what, sizeof(what), "a model has no '%.64s'%s%s%s", name,
                 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
        if (!is_article)
            return wrong(f, key, what, err);
        snprintf(what, sizeof(what),
                 "%s:%zu: Compose itself refuses '%s' in a model, and the lock leaves it out",
                 f->name, key->start_mark.line + 1, name);
        f->note(f->ctx, what);
    }
    return 0;
}

static int take_model(const struct file *f, const char *key, const yaml_node_t *map,
                      struct err *err)
{
    if (map->type != YAML_MAPPING_NODE)
        return wrong(f, map, "a model is a mapping with `model: NAME`", err);
    const yaml_node_t *model = get(f, map, "model", 0), *size = get(f, map, "context_size", 0),
                      *flags = get(f, map, "runtime_flags", 0);
    if (check_keys(f, map, err) < 0)
        return -err->code;
    if (!model)
        return wrong(f, map, "the model lacks `model: NAME`", err);
    json_t *m = json_object();
    json_array_append_new(f->models, m);
    json_t *name = string_at(f, model, err);
    if (!name)
        return -err->code;
    json_object_set_new(m, "key", json_string(key));
    json_object_set_new(m, "model", name);
    if (size && take_size(f, size, m, err) < 0)
        return -err->code;
    return flags ? take_flags(f, flags, m, err) : 0;
}

/* options of a provider: model (one or several), context-size, runtime-flags. */
static int take_provider(const struct file *f, const char *service, const yaml_node_t *options,
                         struct err *err)
{
    const yaml_node_t *model = get(f, options, "model", 0),
                      *size = get(f, options, "context-size", 0),
                      *flags = get(f, options, "runtime-flags", 0);
    size_t n = !model ? 0
               : model->type == YAML_SEQUENCE_NODE
                   ? (size_t)(model->data.sequence.items.top - model->data.sequence.items.start)
                   : 1;
    for (size_t i = 0; i < n; i++) {
        const yaml_node_t *at = model->type == YAML_SEQUENCE_NODE
                                    ? node(f, model->data.sequence.items.start[i])
                                    : model;
        json_t *m = json_object(), *name = string_at(f, at, err);
        json_array_append_new(f->models, m);
        if (!name)
            return -err->code;
        json_object_set_new(m, "key", json_string(service));
        json_object_set_new(m, "model", name);
        if ((size && take_size(f, size, m, err) < 0) || (flags && take_flags(f, flags, m, err) < 0))
            return -err->code;
    }
    return 0;
}

static int walk(const struct file *f, const yaml_node_t *root, struct err *err)
{
    const yaml_node_t *models = get(f, root, "models", 0), *services = get(f, root, "services", 0);
    if (!root || root->type != YAML_MAPPING_NODE)
        return err_set(err, E_FORMAT, "%s is no Compose file: it is not a mapping", f->name);
    if (models && models->type != YAML_MAPPING_NODE && *text_of(models))
        return wrong(f, models, "`models` is a mapping of names to models", err);
    if (models && models->type == YAML_MAPPING_NODE) {
        for (const yaml_node_pair_t *p = models->data.mapping.pairs.start;
             p < models->data.mapping.pairs.top; p++) {
            if (take_model(f, text_of(node(f, p->key)), node(f, p->value), err) < 0)
                return -err->code;
        }
    }
    if (!services || services->type != YAML_MAPPING_NODE)
        return 0;
    for (const yaml_node_pair_t *p = services->data.mapping.pairs.start;
         p < services->data.mapping.pairs.top; p++) {
        const yaml_node_t *provider = get(f, node(f, p->value), "provider", 0);
        if (strcmp(text_of(get(f, provider, "type", 0)), "model") == 0 &&
            take_provider(f, text_of(node(f, p->key)), get(f, provider, "options", 0), err) < 0)
            return -err->code;
    }
    return 0;
}

int compose_models(const char *name, struct str text, compose_env_fn env, compose_note_fn note,
                   void *ctx, json_t **ret, struct err *err)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    if (text.len > COMPOSE_MAX_BYTES)
        return err_set(err, E_LIMIT, "%s is larger than %u bytes", name, COMPOSE_MAX_BYTES);
    if (load_yaml(err) < 0)
        return -err->code;
    if (!yaml.parser_initialize(&parser))
        return err_set(err, E_NOMEM, "no memory to read %s", name);
    yaml.parser_set_input_string(&parser, (const unsigned char *)text.p, text.len);
    if (!yaml.parser_load(&parser, &doc)) {
        int rc = err_set(err, E_FORMAT, "%s:%zu:%zu: %s", name, parser.problem_mark.line + 1,
                         parser.problem_mark.column + 1,
                         parser.problem ? parser.problem : "this is no YAML");
        yaml.parser_delete(&parser);
        return rc;
    }
    struct file f = {
        .name = name, .doc = &doc, .env = env, .note = note, .ctx = ctx, .models = json_array()};
    int rc = walk(&f, yaml.document_get_root_node(&doc), err);
    yaml.document_delete(&doc);
    yaml.parser_delete(&parser);
    if (rc == 0)
        *ret = f.models;
    else
        json_decref(f.models);
    return rc;
}
