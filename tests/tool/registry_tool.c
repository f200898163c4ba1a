/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/registry from a shell, for scenarios: registry_tool [--OPTION VALUE]... STORE COMMAND...
 *   make NAME BYTES...     a model of pseudo-random layers under NAME; prints its digest
 *   pull REF | push NAME REF | inspect REF | list | verify | untag NAME | usage
 * Prints one JSON object a line: progress (with --progress 1), at last the result, or an error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/registry/registry.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/codec/json.h"
#include "lib/oci/sha256.h"
#include "worker/serve/worker.h"

static struct {
    struct registry_config cfg;
    const char *bearer;
    bool progress;
    uint64_t cancel_at;
} opt;

static int failed(const struct err *err)
{
    struct buf b;
    buf_init(&b, 8192);
    buf_append_str(&b, "{\"error\":");
    json_put_str(&b, str_from(err_code_name(err->code)));
    buf_append_str(&b, ",\"message\":");
    json_put_str(&b, str_from(err->msg));
    buf_append_str(&b, "}");
    puts(buf_str(&b));
    buf_release(&b);
    return 1;
}

static bool on_progress(void *ctx, const struct registry_progress *p)
{
    (void)ctx;
    struct buf b;
    if (opt.progress) {
        buf_init(&b, 8192);
        buf_printf(&b,
                   "{\"phase\":%d,\"layer\":\"%s\",\"layer_done\":%llu,\"layer_bytes\":%llu,"
                   "\"done\":%llu,\"total\":%llu,\"warning\":%s,\"note\":",
                   (int)p->phase, p->layer, (unsigned long long)p->layer_done,
                   (unsigned long long)p->layer_bytes, (unsigned long long)p->done_bytes,
                   (unsigned long long)p->total_bytes, p->is_warning ? "true" : "false");
        json_put_str(&b, str_from(p->note ? p->note : ""));
        buf_append_str(&b, "}");
        puts(buf_str(&b));
        fflush(stdout);
        buf_release(&b);
    }
    return !opt.cancel_at || p->done_bytes < opt.cancel_at;
}

static void print_result(const struct registry_result *r)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("{\"digest\":\"%s\",\"name\":\"%s\",\"total\":%llu,\"cached\":%s,\"rss_kib\":%ld,"
           "\"cpu_s\":%.3f}\n",
           r->digest, r->name, (unsigned long long)r->total_bytes, r->was_cached ? "true" : "false",
           u.ru_maxrss,
           (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
               (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
}

/* A layer that begins like a GGUF; the same seed and size give the same bytes. */
static int put_layer(struct store *s, uint64_t size, uint64_t seed,
                     char digest[OCI_DIGEST_CHARS + 1], struct err *err)
{
    static uint64_t block[1 << 16];
    struct store_writer *w;
    uint64_t offset, x = seed * 0x9e3779b97f4a7c15ull + 1;
    int rc = store_write_begin(s, NULL, size, &w, &offset, err);
    if (rc < 0)
        return rc;
    for (uint64_t at = 0; rc == 0 && at < size; at += sizeof(block)) {
        for (size_t i = 0; i < ARRAY_LEN(block); i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            block[i] = x;
        }
        if (at == 0)
            memcpy(block, "GGUF\3\0\0", 8);
        rc = store_write(w, block, (size_t)MIN_OF(size - at, sizeof(block)), err);
    }
    if (rc < 0) {
        store_write_abandon(w, false);
        return rc;
    }
    return store_write_commit(w, digest, err);
}

static int make(struct store *s, const char *name, char **sizes, int n, struct err *err)
{
    struct oci_descriptor layers[64] = {{0}};
    struct oci_manifest m = {.media = MEDIA_OCI_MANIFEST, .artifact_type = "", .layers = layers};
    struct buf text;
    char digest[OCI_DIGEST_CHARS + 1];
    static const char config[] =
        "{\"config\":{\"format\":\"gguf\",\"parameters\":\"1\",\"size\":\"1\"},\"descriptor\":{},"
        "\"rootfs\":{\"type\":\"rootfs\",\"diff_ids\":[]}}";
    int rc = store_put(s, config, sizeof(config) - 1, m.config.digest, err);
    m.config.media_type = oci_media_type(MEDIA_DOCKER_CONFIG_V01);
    m.config.size = sizeof(config) - 1;
    m.n_layers = (uint32_t)MIN_OF(n, 64);
    for (uint32_t i = 0; rc == 0 && i < m.n_layers; i++) {
        layers[i].media_type = oci_media_type(MEDIA_DOCKER_GGUF);
        layers[i].size = strtoull(sizes[i], NULL, 10);
        rc = put_layer(s, layers[i].size, layers[i].size + i, layers[i].digest, err);
    }
    buf_init(&text, LIMIT_OCI_MANIFEST_BYTES);
    oci_manifest_put(&m, &text);
    if (rc == 0)
        rc = store_put(s, text.data, text.len, digest, err);
    if (rc == 0)
        rc = store_tag(s, name, digest, err);
    if (rc == 0)
        printf("{\"digest\":\"%s\"}\n", digest);
    buf_release(&text);
    return rc;
}

static int list(struct store *s, struct err *err)
{
    struct store_list l;
    int rc = store_list(s, &l, err);
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        printf("{\"name\":\"%s\",\"digest\":\"%s\"}\n", l.items[i].name, l.items[i].digest);
    if (rc == 0)
        store_list_release(&l);
    return rc;
}

static bool on_finding(void *ctx, const struct store_finding *f)
{
    (void)ctx;
    if (f->what)
        fprintf(stderr, "%s: %s\n", f->digest ? f->digest : "", f->what);
    return true;
}

static int usage(struct store *s, struct err *err)
{
    struct store_usage u;
    int rc = store_usage(s, &u, err);
    if (rc == 0)
        printf("{\"models\":%u,\"blobs\":%u,\"partial\":%u,\"partial_bytes\":%llu}\n", u.n_models,
               u.n_blobs, u.n_partial, (unsigned long long)u.partial_bytes);
    return rc;
}

static int remote(struct store *s, char **arg, int n, struct err *err)
{
    struct registry *r;
    struct oci_reference ref;
    struct registry_result res = {0};
    char digest[OCI_DIGEST_CHARS + 1];
    struct buf manifest, config;
    const struct registry_options o = {
        .bearer_token = opt.bearer, .on_progress = on_progress, .ctx = NULL};
    int rc = registry_new(&opt.cfg, s, &r, err);
    if (rc < 0)
        return rc;
    rc = oci_reference_parse(str_from(arg[n - 1]), registry_default(r), &ref, err);
    if (rc == 0 && strcmp(arg[0], "pull") == 0) {
        rc = registry_pull(r, &ref, &o, &res, err);
    } else if (rc == 0 && strcmp(arg[0], "inspect") == 0) {
        rc = registry_inspect(r, &ref, &o, &manifest, &config, digest, err);
        if (rc == 0)
            printf("{\"digest\":\"%s\",\"manifest\":%s,\"config\":%s}\n", digest,
                   buf_str(&manifest), buf_str(&config));
        buf_release(&manifest);
        buf_release(&config);
        registry_free(r);
        return rc;
    } else if (rc == 0) {
        rc = store_resolve(s, arg[1], digest, err);
        if (rc == 0)
            rc = registry_push(r, digest, &ref, &o, &res, err);
    }
    if (rc == 0)
        print_result(&res);
    registry_result_release(&res);
    registry_free(r);
    return rc;
}

static int run(struct store *s, char **arg, int n, struct err *err)
{
    uint64_t found = 0;
    bool deleted;
    if (strcmp(arg[0], "make") == 0 && n >= 3)
        return make(s, arg[1], arg + 2, n - 2, err);
    if (strcmp(arg[0], "list") == 0)
        return list(s, err);
    if (strcmp(arg[0], "usage") == 0)
        return usage(s, err);
    if (strcmp(arg[0], "untag") == 0 && n == 2)
        return store_untag(s, arg[1], &deleted, err);
    if (strcmp(arg[0], "verify") == 0) {
        int rc = store_verify(s, false, on_finding, NULL, &found, err);
        if (rc == 0)
            printf("{\"findings\":%llu}\n", (unsigned long long)found);
        return rc;
    }
    if (n >= 2)
        return remote(s, arg, n, err);
    return err_set(err, E_INVALID, "no such command");
}

static int take_option(const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **text;
        uint32_t *number;
    } options[] = {
        {"--mirrors", &opt.cfg.mirrors, NULL},
        {"--insecure", &opt.cfg.insecure, NULL},
        {"--auth-hosts", &opt.cfg.auth_hosts, NULL},
        {"--ca", &opt.cfg.ca_file, NULL},
        {"--docker-config", &opt.cfg.docker_config_dir, NULL},
        {"--hub", &opt.cfg.hub_endpoint, NULL},
        {"--hub-token", &opt.cfg.hub_token, NULL},
        {"--default", &opt.cfg.default_registry, NULL},
        {"--bearer", &opt.bearer, NULL},
        {"--parallel", NULL, &opt.cfg.max_parallel},
        {"--stall-ms", NULL, &opt.cfg.stall_ms},
        {"--retries", NULL, &opt.cfg.n_retries},
        {"--pause-ms", NULL, &opt.cfg.pause_ms},
        {"--chunk-bytes", NULL, &opt.cfg.chunk_bytes},
    };
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (strcmp(name, options[i].name) != 0)
            continue;
        if (options[i].text)
            *options[i].text = value;
        else
            *options[i].number = (uint32_t)strtoul(value, NULL, 10);
        return 0;
    }
    if (strcmp(name, "--progress") == 0)
        opt.progress = true;
    else if (strcmp(name, "--cancel-at") == 0)
        opt.cancel_at = strtoull(value, NULL, 10);
    else
        return -1;
    return 0;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    struct store *s;
    int i = 1;
    if (argc > 1 && strcmp(argv[1], "worker") == 0) /* reads what a model is */
        return worker_main(argc, argv);
    log_init(LOG_LEVEL_INFO, false, "registry_tool");
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (take_option(argv[i], argv[i + 1]) < 0) {
            fprintf(stderr, "no option %s\n", argv[i]);
            return 2;
        }
    }
    if (argc - i < 2)
        return 2;
    if (store_open(argv[i], &s, &err) < 0)
        return failed(&err);
    int rc = run(s, argv + i + 1, argc - i - 1, &err);
    store_close(s);
    return rc < 0 ? failed(&err) : 0;
}
