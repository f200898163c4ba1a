/* SPDX-License-Identifier: Apache-2.0 */
/* The table of `docker model`'s commands.  Names, operands, flags and defaults are those of Docker
 * Model Runner's command line; what berth does otherwise, it says. */
#include <string.h>

#include "cli/docker/plugin.h"

#define END                                                                                        \
    {                                                                                              \
        NULL, 0, NULL, NULL, 0                                                                     \
    }
#define MANY CLI_MAX_OPERANDS

static const struct cli_flag none[] = {END};
static const struct cli_flag json[] = {{"json", 0, NULL, "Print JSON", 0}, END};
static const struct cli_flag force[] = {
    {"force", 'f', NULL, "Do not ask, and take loaded ones too", 0}, END};

static const struct cli_flag run_flags[] = {
    {"backend", 0, "string", "Engine to answer with (llama.cpp)", CLI_HIDDEN},
    {"color", 0, "string", "Show Markdown as styles (auto|yes|no) (default \"no\")", 0},
    {"debug", 0, NULL, "Tell tokens, times and the seed afterwards", 0},
    {"detach", 'd', NULL, "Load the model, and ask nothing", 0},
    {"openaiurl", 0, "string", "Not what berth does: says what to do instead", CLI_HIDDEN},
    {"websearch", 0, NULL, "Not what berth does: says what to do instead", CLI_HIDDEN},
    END};

static const struct cli_flag list_flags[] = {
    {"json", 0, NULL, "Print JSON", 0},
    {"openai", 0, NULL, "Print the list as OpenAI's API has it", 0},
    {"openaiurl", 0, "string", "List the models of another server, at URL/models", 0},
    {"quiet", 'q', NULL, "Print ids alone", 0},
    END};

static const struct cli_flag inspect_flags[] = {
    {"openai", 0, NULL, "Print the model as OpenAI's API has it", 0},
    {"remote", 'r', NULL, "Ask the registry", 0},
    END};

static const struct cli_flag search_flags[] = {
    {"json", 0, NULL, "Print JSON", 0},
    {"limit", 'n', "int", "Most results of each source (default 32)", 0},
    {"source", 0, "string", "all, dockerhub or huggingface (default \"all\")", 0},
    END};

static const struct cli_flag show_flags[] = {{"remote", 'r', NULL, "Ask the registry", 0}, END};

static const struct cli_flag unload_flags[] = {
    {"all", 0, NULL, "Unload every model that runs", 0},
    {"backend", 0, "string", "Only those of this engine", 0},
    END};

static const struct cli_flag configure_flags[] = {
    {"context-size", 0, "int32", "Context length in tokens", 0},
    {"gpu-memory-utilization", 0, "float", "Share of a GPU's memory, 0 to 1", 0},
    {"hf_overrides", 0, "string", "Further settings of vLLM's, as JSON", 0},
    {"keep-alive", 0, "string", "How long it stays loaded without requests: 5m, 1h, -1", 0},
    {"mode", 0, "string", "completion, embedding, reranking or image-generation", 0},
    {"speculative-draft-model", 0, "string", "Draft model of speculative decoding", 0},
    {"speculative-min-acceptance-rate", 0, "float", "Least acceptance of its tokens", 0},
    {"speculative-num-tokens", 0, "int", "Tokens it proposes at once", 0},
    {"think", 0, NULL, "Let a reasoning model think", 0},
    END};

static const struct cli_flag package_flags[] = {
    {"chat-template", 0, "file", "Jinja template to chat with", 0},
    {"context-size", 0, "uint", "Context length in tokens", 0},
    {"dduf", 0, "file", "Made of a DDUF file", 0},
    {"format", 0, "string", "docker or cncf (default \"docker\")", 0},
    {"from", 0, "string", "Made of a stored model", 0},
    {"gguf", 0, "file", "Made of a GGUF file, of a split one its first part", 0},
    {"license", 'l', "file", "A licence's text", CLI_REPEAT},
    {"lora", 0, "file", "LoRA adapter", CLI_REPEAT},
    {"mmproj", 0, "file", "Multimodal projector", 0},
    {"push", 0, NULL, "Send it to its registry", 0},
    {"safetensors", 0, "dir", "Same as --safetensors-dir", CLI_HIDDEN},
    {"safetensors-dir", 0, "dir", "Made of a folder of safetensors files", 0},
    END};

static const struct cli_flag logs_flags[] = {
    {"follow", 'f', NULL, "Go on with what comes", 0},
    {"no-engines", 0, NULL, "Leave the engines' lines out", 0},
    END};

static const struct cli_flag bench_flags[] = {
    {"concurrency", 0, "ints", "Requests at once, level by level (default 1,2,4,8)", 0},
    {"duration", 0, "duration", "How long each level lasts (default 30s)", 0},
    {"json", 0, NULL, "Print JSON", 0},
    {"prompt", 0, "string", "What is asked each time", 0},
    {"timeout", 0, "duration", "When a request has failed (default 5m)", 0},
    END};

static const struct cli_flag compose_flags[] = {
    {"backend", 0, "string", "inference engine to use", 0},
    {"context-size", 0, "int64", "context length in tokens", 0},
    {"model", 0, "stringArray", "model to provide", CLI_REPEAT},
    {"project-name", 0, "string", "the Compose project", 0},
    {"runtime-flags", 0, "string", "flags of the engine", 0},
    {"speculative-draft-model", 0, "string", "draft model of speculative decoding", 0},
    {"speculative-min-acceptance-rate", 0, "float64", "least acceptance of its tokens", 0},
    {"speculative-num-tokens", 0, "int", "tokens it proposes at once", 0},
    END};

#define DAEMON                                                                                     \
    "berth is one program and needs no container: `berth serve` runs it in the foreground, "       \
    "`systemctl enable --now berth.socket` as a service, and commands start one where none "       \
    "listens"
#define STOP                                                                                       \
    "`systemctl stop berth` stops the service, `berth stop --daemon` a daemon that a command "     \
    "started"

static const struct docker_command commands[] = {
    {"bench", NULL, "MODEL", 1, 1, "Measure a model's throughput and latency under load",
     bench_flags, docker_bench, NULL},
    {"compose", NULL, "metadata|up|down [SERVICE]", 1, 2, NULL, compose_flags, docker_compose,
     NULL},
    {"configure", "config", "[--context-size=<n>] MODEL [-- <runtime-flags...>]", 1, MANY, NULL,
     configure_flags, docker_configure, NULL},
    {"configure show", NULL, "[MODEL]", 0, 1, NULL, none, docker_configure_show, NULL},
    {"context", NULL, "COMMAND", 0, MANY, NULL, none, NULL,
     "name the daemon by its address instead: MODEL_RUNNER_HOST=http://HOST:PORT, or `url = "
     "http://HOST:PORT` in ~/.config/berth/config"},
    {"df", NULL, "", 0, 0, "Show what models and engine take on disk", none, docker_df, NULL},
    {"gateway", NULL, "", 0, MANY, NULL, none, NULL,
     "berth's daemon answers itself; to share it with others give it keys and TLS (`berth help "
     "serve`), and put a proxy of your choice before several"},
    {"inspect", NULL, "MODEL", 1, 1, "Print everything about one model as JSON", inspect_flags,
     docker_inspect, NULL},
    {"install-runner", NULL, "", 0, MANY, NULL, none, NULL, DAEMON},
    {"launch", NULL, "[APP] [-- ARGS...]", 0, MANY, NULL, none, NULL,
     "start the program yourself with OPENAI_BASE_URL=http://localhost:12434/v1 and any "
     "OPENAI_API_KEY"},
    {"list", "ls", "[OPTIONS] [MODEL]", 0, 1, "List the models of the local store", list_flags,
     docker_list, NULL},
    {"logs", NULL, "[OPTIONS]", 0, 0, "Print the daemon's log", logs_flags, docker_logs, NULL},
    {"package", NULL,
     "(--gguf <path> | --safetensors-dir <path> | --dduf <path> | --from <model>) MODEL", 1, 1,
     "Make a model of files", package_flags, docker_package, NULL},
    {"ps", NULL, "", 0, 0, "List the models that are loaded", none, docker_ps, NULL},
    {"pull", NULL, "MODEL", 1, 1, "Fetch a model from a registry or from Hugging Face", none,
     docker_pull, NULL},
    {"purge", NULL, "[OPTIONS]", 0, 0, "Remove every model of the local store", force, docker_purge,
     NULL},
    {"push", NULL, "MODEL", 1, 1, "Send a model to its registry", none, docker_push, NULL},
    {"reinstall-runner", NULL, "", 0, MANY, NULL, none, NULL, DAEMON},
    {"requests", NULL, "[OPTIONS]", 0, MANY, NULL, none, NULL,
     "berth keeps no prompts; `berth serve --audit-log FILE` writes a line for each request "
     "without "
     "them"},
    {"restart-runner", NULL, "", 0, MANY, NULL, none, NULL,
     "`systemctl restart berth` restarts the service; of a daemon that a command started, `berth "
     "stop "
     "--daemon`: the next command starts one"},
    {"rm", NULL, "[OPTIONS] MODEL [MODEL...]", 1, MANY, "Remove models from the local store", force,
     docker_rm, NULL},
    {"run", NULL, "MODEL [PROMPT]", 1, MANY, "Ask a model, or converse with it", run_flags,
     docker_run, NULL},
    {"search", NULL, "[OPTIONS] [TERM]", 0, 1, "Look for models on Docker Hub and Hugging Face",
     search_flags, docker_search, NULL},
    {"show", NULL, "MODEL", 1, 1, "Print what a model is", show_flags, docker_show, NULL},
    {"skills", NULL, "", 0, MANY, NULL, none, NULL,
     "berth comes with none; its manual is `berth help`"},
    {"start-runner", NULL, "", 0, MANY, NULL, none, NULL, DAEMON},
    {"status", NULL, "", 0, 0, "Tell whether the daemon runs, and with which engines", json,
     docker_status, NULL},
    {"stop-runner", NULL, "", 0, MANY, NULL, none, NULL, STOP},
    {"tag", NULL, "SOURCE TARGET", 2, 2, "Give a model a further name", none, docker_tag, NULL},
    {"uninstall-runner", NULL, "", 0, MANY, NULL, none, NULL,
     "remove the package or what `make install` put there; models stay in the daemon's store until "
     "`berth rm`"},
    {"unload", "stop", "(MODEL [MODEL ...] [--backend BACKEND] | --all)", 0, MANY,
     "End models that run", unload_flags, docker_unload, NULL},
    {"version", NULL, "", 0, 0, "Print the versions of command line and daemon", none,
     docker_version, NULL},
};

const struct docker_command *docker_commands(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(commands);
    return commands;
}

static bool is_called(const struct docker_command *c, const char *word)
{
    return strcmp(c->name, word) == 0 || (c->alias && strcmp(c->alias, word) == 0);
}

const struct docker_command *docker_find(int argc, char **argv, int *ret_words)
{
    const struct docker_command *found = NULL;
    *ret_words = 1;
    for (size_t i = 0; i < ARRAY_LEN(commands) && argc > 0; i++) {
        if (is_called(&commands[i], argv[0]))
            found = &commands[i];
    }
    for (size_t i = 0; found && argc > 1 && i < ARRAY_LEN(commands); i++) {
        size_t n = strlen(found->name);
        const char *name = commands[i].name;
        if (strncmp(name, found->name, n) == 0 && name[n] == ' ' &&
            strcmp(name + n + 1, argv[1]) == 0) {
            *ret_words = 2;
            return &commands[i];
        }
    }
    return found;
}
