/* SPDX-License-Identifier: Apache-2.0 */
/* One binary, three roles: `berth worker` is a worker, `berth serve` the daemon, `berth debug` a
 * worker without frames, `docker-model` docker's plugin, and everything else the command line.
 * Here, and only here, all three meet: what the command line read is handed to the role that
 * carries it out. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/docker/plugin.h"
#include "cli/model_path.h"
#include "daemon/serve.h"
#include "lib/base/limits.h"
#include "lib/base/mem.h"
#include "worker/kernel/kern.h"
#include "worker/serve/bench.h"
#include "worker/serve/debug.h"
#include "worker/serve/worker.h"

static uint32_t threads_of(const struct config *c)
{
    uint32_t n = config_u32(c, CONFIG_threads);
    cpu_set_t set;
    if (n == 0 && sched_getaffinity(0, sizeof(set), &set) == 0)
        n = (uint32_t)CPU_COUNT(&set);
    if (n == 0)
        n = (uint32_t)MAX_OF(sysconf(_SC_NPROCESSORS_ONLN), 1);
    return n;
}

/* Folders that somebody named and that cannot be looked into: said, not refused, since models may
 * come later. */
static void warn_of_missing_folders(const char *dirs)
{
    for (const char *s = dirs; *s;) {
        size_t n = strcspn(s, ":");
        char *dir = mem_dup(s, n);
        if (n && access(dir, R_OK | X_OK) < 0)
            fprintf(stderr,
                    "berth: models-dir names the folder %s, which cannot be looked into: %s\n", dir,
                    strerror(errno));
        mem_free(dir);
        s += n + (s[n] == ':');
    }
}

/* What does not concern models. */
static void fill_server(struct daemon_config *d, const struct config *c)
{
    uint64_t timeout_s = config_u64(c, CONFIG_request_timeout);
    d->host = config_str(c, CONFIG_host);
    d->port = (uint16_t)config_u32(c, CONFIG_port);
    d->allow_remote = config_u32(c, CONFIG_insecure) != 0;
    d->socket_path = config_str(c, CONFIG_socket);
    d->api_keys = config_str(c, CONFIG_api_keys);
    d->tls_cert = config_str(c, CONFIG_tls_cert);
    d->tls_key = config_str(c, CONFIG_tls_key);
    d->allowed_hosts = config_str(c, CONFIG_allowed_hosts);
    d->allowed_origins = config_str(c, CONFIG_allowed_origins);
    d->log_level = (enum log_level)config_u32(
        c, CONFIG_log_level); /* the choices stand in the levels' order */
    d->log_json = config_u32(c, CONFIG_log_format) == 1;
    d->watch = (struct watch_config){
        .audit_path = config_str(c, CONFIG_audit_log),
        .log_path = config_str(c, CONFIG_log_file),
        .log_file_bytes = config_u64(c, CONFIG_log_file_size),
        .log_files = config_u32(c, CONFIG_log_file_count),
        .log_prompts = config_u32(c, CONFIG_log_prompts) != 0,
    };
    d->max_body_bytes = config_u64(c, CONFIG_max_body);
    d->max_connections = config_u32(c, CONFIG_max_connections);
    d->request_timeout_ms = timeout_s == CONFIG_FOREVER ? 0 : timeout_s * 1000;
    d->exit_idle_s = config_u32(c, CONFIG_exit_idle);
    d->drain_delay_s = MIN_OF(config_u64(c, CONFIG_drain_delay), 3600);
    d->drain_timeout_s = config_u64(c, CONFIG_drain_timeout);
}

/* The daemon opens it from wherever it runs: a path is made absolute, a name stays one. */
static int draft_model_of(const struct config *c, struct buf *out, struct err *err)
{
    const char *draft = config_str(c, CONFIG_speculative_draft_model);
    if (!draft || !draft[0])
        return 0;
    if (!model_is_path(draft))
        return buf_append_str(out, draft) < 0 ? buf_status(out, "the draft model", err) : 0;
    return model_real_path(draft, out, err) < 0 ? err_wrap(err, "--speculative-draft-model") : 0;
}

static int serve(const struct cli_args *a)
{
    const struct config *c = &a->config;
    struct err err = ERR_INIT;
    struct daemon_config d;
    struct sd sd;
    struct err no_home = ERR_INIT;
    struct buf state_dir, store_dir, draft_model;
    uint64_t ready_fd = UINT64_MAX;
    buf_init(&draft_model, LIMIT_PATH_BYTES);
    if (draft_model_of(c, &draft_model, &err) < 0 ||
        cli_number(a, "ready-fd", 0, 65535, &ready_fd, &err) < 0 || sd_init(&sd, &err) < 0) {
        buf_release(&draft_model);
        cli_fail(&err);
        return CLI_USAGE;
    }
    daemon_config_init(&d);
    fill_server(&d, c);
    if (!d.watch.log_path[0] && cli_has(a, "else-log-file"))
        d.watch.log_path = cli_flag(a, "else-log-file");
    d.sd = &sd;
    if (ready_fd != UINT64_MAX)
        d.ready_fd = (int)ready_fd;
    /* Without a place for it, what is declared holds until the daemon ends. */
    buf_init(&state_dir, LIMIT_PATH_BYTES);
    bool has_state = config_state_dir(&state_dir, &err) == 0;
    buf_init(&store_dir, LIMIT_PATH_BYTES);
    d.store_is_named = c->values[CONFIG_store].source != CONFIG_FROM_DEFAULT;
    if (d.store_is_named)
        buf_append_str(&store_dir, config_str(c, CONFIG_store));
    else if (config_store_dir(&store_dir, &no_home) < 0)
        log_warn("%s", no_home.msg);
    d.store_dir = buf_str(&store_dir);
    d.config = c;
    d.runner = (struct runner_config){
        .models_dirs = config_str(c, CONFIG_models_dir),
        .n_threads = threads_of(c),
        .n_ctx = config_u32(c, CONFIG_max_model_len),
        .max_num_seqs = config_u32(c, CONFIG_max_num_seqs),
        .max_num_batched_tokens = config_u32(c, CONFIG_max_num_batched_tokens),
        .block_size = config_u32(c, CONFIG_block_size),
        .no_prefix_cache = !config_u32(c, CONFIG_prefix_caching),
        .no_prepare = config_u32(c, CONFIG_no_prepare),
        .n_speculate = config_u32(c, CONFIG_speculative_num_tokens),
        .draft_model = draft_model.len ? buf_str(&draft_model) : NULL,
        .kv_type = config_u32(c, CONFIG_kv_cache_type), /* enum kv_type's order */
        .kv_cache_bytes = config_u64(c, CONFIG_kv_cache_memory),
        .cpu_level = config_str(c, CONFIG_cpu),
        .load_timeout_s = config_u32(c, CONFIG_load_timeout),
        .hang_timeout_s = config_u32(c, CONFIG_hang_timeout),
        .keep_alive_s = config_u64(c, CONFIG_keep_alive),
        .max_memory_bytes = config_u64(c, CONFIG_max_memory),
        .max_loaded = config_u32(c, CONFIG_max_loaded),
        .max_waiting = config_u32(c, CONFIG_max_waiting),
        .state_dir = has_state ? buf_str(&state_dir) : NULL,
    };
    /* A wrong level would otherwise show only when the first model is loaded, as that model's
     * failure. */
    struct kern kern;
    if (d.runner.cpu_level[0] && kern_init(&kern, d.runner.cpu_level, &err) < 0) {
        err_wrap(&err, "--cpu");
        cli_fail(&err);
        buf_release(&state_dir);
        buf_release(&store_dir);
        buf_release(&draft_model);
        return CLI_USAGE;
    }
    if (c->values[CONFIG_models_dir].source != CONFIG_FROM_DEFAULT)
        warn_of_missing_folders(d.runner.models_dirs);
    int status = daemon_main(&d);
    buf_release(&state_dir);
    buf_release(&store_dir);
    buf_release(&draft_model);
    return status;
}

static struct engine_config engine_of(const struct config *c)
{
    const char *level = config_str(c, CONFIG_cpu);
    return (struct engine_config){
        .n_threads = threads_of(c),
        .n_ctx = config_u32(c, CONFIG_max_model_len),
        .max_num_seqs = config_u32(c, CONFIG_max_num_seqs),
        .max_num_batched_tokens = config_u32(c, CONFIG_max_num_batched_tokens),
        .block_size = config_u32(c, CONFIG_block_size),
        .no_prefix_cache = !config_u32(c, CONFIG_prefix_caching),
        .n_speculate = config_u32(c, CONFIG_speculative_num_tokens),
        .kv_type = (enum kv_type)config_u32(c, CONFIG_kv_cache_type),
        .kv_cache_bytes = config_u64(c, CONFIG_kv_cache_memory),
        .cpu_level = level && level[0] ? level : NULL,
    };
}

static enum debug_what debug_what(const char *name)
{
    static const char *const names[] = {[DEBUG_LOGITS] = "debug logits",
                                        [DEBUG_TOKENIZE] = "debug tokenize",
                                        [DEBUG_DETOKENIZE] = "debug detokenize",
                                        [DEBUG_RENDER] = "debug render",
                                        [DEBUG_SHOW] = "debug show",
                                        [DEBUG_PLAN] = "debug plan"};
    size_t i = 0;
    while (i < ARRAY_LEN(names) && strcmp(name, names[i]) != 0)
        i++;
    BUG_ON(i == ARRAY_LEN(names));
    return (enum debug_what)i;
}

static int debug(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    struct buf path, draft_path;
    const char *draft = config_str(&a->config, CONFIG_speculative_draft_model);
    uint64_t now = (uint64_t)time(NULL);
    struct debug_request r = {
        .what = debug_what(a->command->name),
        .tokens = cli_flag(a, "tokens"),
        .input_path = cli_flag(a, "context") ? cli_flag(a, "context") : cli_flag(a, "file"),
        .out_path = cli_flag(a, "out"),
        .with_special = cli_has(a, "special"),
        .engine = engine_of(&a->config),
    };
    /* Logits are for comparing: they take the exact cache unless told otherwise. */
    if (r.what == DEBUG_LOGITS &&
        a->config.values[CONFIG_kv_cache_type].source == CONFIG_FROM_DEFAULT)
        r.engine.kv_type = KV_F32;
    if (cli_number(a, "now", 0, INT64_MAX, &now, &err) < 0) {
        cli_fail(&err);
        return CLI_USAGE;
    }
    r.now_unix = (int64_t)now;
    buf_init(&path, LIMIT_PATH_BYTES - 1);
    buf_init(&draft_path, LIMIT_PATH_BYTES - 1);
    int rc;
    if (r.what == DEBUG_RENDER)
        rc = buf_append_str(&path, a->operands[0]) < 0 ? buf_status(&path, "TEMPLATE", &err) : 0;
    else
        rc = model_find(a->operands[0], config_str(&a->config, CONFIG_models_dir), &path, &err);
    if (rc == 0 && r.what == DEBUG_PLAN && draft && draft[0]) {
        rc = model_find(draft, config_str(&a->config, CONFIG_models_dir), &draft_path, &err);
        r.draft_path = buf_str(&draft_path);
    }
    if (rc == 0) {
        r.path = buf_str(&path);
        rc = debug_main(&r, &err);
    }
    buf_release(&draft_path);
    buf_release(&path);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

/* `berth bench limits` and `berth bench kernels`. */
static int bench(const struct cli_args *a)
{
    struct err err = ERR_INIT;
    const char *level = config_str(&a->config, CONFIG_cpu);
    struct bench_request r = {.n_threads = threads_of(&a->config),
                              .cpu_level = level && level[0] ? level : NULL,
                              .type = cli_flag(a, "type"),
                              .as_json = cli_has(a, "json")};
    bool is_limits = strcmp(a->command->name, "bench limits") == 0;
    int rc = is_limits ? bench_limits(&r, &err) : bench_kernels(&r, &err);
    return rc < 0 ? cli_fail(&err) : CLI_OK;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return worker_main(argc, argv);
    if (argc > 0 && docker_is_plugin(argv[0]))
        return docker_main(argc, argv);
    struct cli_args args;
    int status;
    cli_begin();
    if (!cli_parse(argc, argv, &args, &status))
        return cli_end(status);
    switch (args.command->role) {
    case CLI_ROLE_CLI: status = args.command->run(&args); break;
    case CLI_ROLE_SERVE: status = serve(&args); break;
    case CLI_ROLE_DEBUG:
        status = strncmp(args.command->name, "bench ", 6) == 0 ? bench(&args) : debug(&args);
        break;
    }
    cli_args_release(&args);
    return cli_end(status);
}
