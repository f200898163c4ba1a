/* SPDX-License-Identifier: Apache-2.0 */
/* The command table.  Adding a command: a row here, its flags above; help, manual pages and
 * completions follow. */
#include "cli/commands.h"

#define BIT(field) (1ull << CONFIG_##field)
#define WHERE                                                                                      \
    (BIT(host) | BIT(port) | BIT(socket) | BIT(url) | BIT(autostart) | BIT(api_key) | BIT(tls_cert))
#define REGISTRY (BIT(hf_token) | BIT(default_registry))
#define ENGINE                                                                                     \
    (BIT(threads) | BIT(max_model_len) | BIT(max_num_seqs) | BIT(max_num_batched_tokens) |         \
     BIT(block_size) | BIT(prefix_caching) | BIT(speculative_num_tokens) |                         \
     BIT(speculative_draft_model) | BIT(kv_cache_memory) | BIT(kv_cache_type) | BIT(cpu))
#define ALL   (CONFIG_N_OPTIONS == 64 ? UINT64_MAX : (1ull << CONFIG_N_OPTIONS) - 1)
#define SERVE (ALL & ~(BIT(api_key) | BIT(history) | BIT(url) | BIT(autostart)))

static const struct cli_flag run_flags[] = {
    {"max-tokens", 'n', "N", "longest answer in tokens; default: up to the end of the context", 0},
    {"temperature", 't', "X", "0 takes the likeliest token each time; default 1", 0},
    {"top-k", 0, "N", "sample among the N likeliest tokens; 0: all", 0},
    {"top-p", 0, "X", "sample among the likeliest tokens whose probabilities add up to X; 1: all",
     0},
    {"min-p", 0, "X", "leave out tokens less than X times as likely as the likeliest; 0: none", 0},
    {"repetition-penalty", 0, "X", "divides what has occurred in prompt or answer; 1: off", 0},
    {"presence-penalty", 0, "X", "subtracted once for what the answer has used; 0: off", 0},
    {"frequency-penalty", 0, "X", "subtracted for every use in the answer; 0: off", 0},
    {"seed", 0, "N", "the same seed gives the same answer; default: drawn anew each time", 0},
    {"stop", 0, "TEXT", "end the answer before this text", CLI_REPEAT},
    {"ignore-eos", 0, NULL, "go on past the model's own end of the answer", 0},
    {"min-tokens", 0, "N", "the answer does not end before so many tokens", 0},
    {"stop-token-ids", 0, "IDS", "token ids, separated by commas, that end the answer", 0},
    {"logit-bias", 0, "ID:X[,ID:X]", "add X, from -100 to 100, to the logit of token ID", 0},
    {"system", 's', "TEXT", "system message of a chat", 0},
    {"chat", 0, NULL, "chat; default where the model has a chat template", 0},
    {"complete", 0, NULL, "continue the prompt as it stands; default where it has none", 0},
    {"raw", 0, NULL, "same as --complete", 0},
    {"chat-template", 0, "FILE",
     "first declare this Jinja template as the model's, for all clients, as `berth configure` does",
     0},
    {"pull", 0, "always|missing|never",
     "fetch the model from its registry; default: when it is missing and its name has a slash, a "
     "tag "
     "or a digest",
     0},
    {"locked", 0, NULL, "only if model, parameters and engine are those of berth.lock", 0},
    {"detach", 'd', NULL, "load the model and ask nothing", 0},
    {"no-stream", 0, NULL, "print the answer when it is whole", 0},
    {"json", 0, NULL, "print the server's JSON answer as it is (implies --no-stream)", 0},
    {"verbose", 0, NULL, "afterwards, on standard error: tokens, times, seed", 0},
    {"no-markdown", 0, NULL, "on a terminal, show the answer's text as it is", 0},
    {"no-color", 0, NULL, "on a terminal, no colours and no Markdown; so does NO_COLOR", 0},
    {"no-history", 0, NULL, "do not keep the lines of this conversation for the next", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag serve_flags[] = {
    {"ready-fd", 0, "FD",
     "write the address to this open descriptor once requests are accepted, then close it", false},
    {"else-log-file", 0, "FILE", "the log file where no --log-file is configured", CLI_HIDDEN},
    {NULL, 0, NULL, NULL, false}};

static const struct cli_flag json_flags[] = {{"json", 0, NULL, "print JSON for machines", false},
                                             {NULL, 0, NULL, NULL, false}};

static const struct cli_flag bench_flags[] = {
    {"concurrency", 'c', "N[,N...]", "answers under way at once, level by level; default 1,2,4,8",
     0},
    {"duration", 'd', "TIME", "how long each level begins requests; default 10s", 0},
    {"num-prompts", 0, "N", "requests of each level, instead of a duration", 0},
    {"prompt-len", 0, "N", "tokens of each prompt; default 128", 0},
    {"output-len", 0, "N", "tokens of each answer; default 128", 0},
    {"prefix-len", 0, "N", "of each prompt's tokens, the first N are the same in all; default 0",
     0},
    {"request-rate", 0, "X",
     "X requests a second that arrive by chance (Poisson), instead of one "
     "as soon as another ends",
     0},
    {"warmup", 0, "N", "requests before the first that counts; default 1", 0},
    {"rounds", 0, "N", "times that each level is run; default 1, with --vs 3", 0},
    {"seed", 0, "N", "the same seed draws the same prompts; default: other ones each time", 0},
    {"timeout", 0, "SECONDS", "a request without an end by then has failed; default: none", 0},
    {"vs", 0, "URL", "another server that speaks OpenAI's API, under the same load, in turns", 0},
    {"vs-model", 0, "NAME", "its model; default: the first that it names", 0},
    {"vs-key", 0, "KEY", "its API key", 0},
    {"plot", 0, "FILE", "write throughput against latency as a picture (SVG)", 0},
    {"locked", 0, NULL, "only if model, parameters and engine are those of berth.lock", 0},
    {"no-limits", 0, NULL, "do not first measure what the machine can do at most", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag bench_kernels_flags[] = {
    {"type", 0, "TYPE", "of weights, such as Q4_K; default: all", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag help_flags[] = {
    {"man", 0, NULL, "print roff, for man(1)", 0},
    {"man-dir", 0, "DIR", "write every page there, as berth.1, berth-run.1 ...", 0},
    {"markdown", 0, NULL, "print all pages as Markdown", 0},
    {NULL, 0, NULL, NULL, 0}};

/* Of commands that read no options and yet say which file they are in. */
static const struct cli_flag path_flags[] = {
    {"config", 0, "FILE", "that file instead of the usual one", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag list_flags[] = {
    {"quiet", 'q', NULL, "print names alone, one a line", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {"no-start", 0, NULL,
     "print names alone, without starting a daemon: where none answers, those in models-dir", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag logs_flags[] = {
    {"follow", 'f', NULL, "go on with what comes, until Ctrl-C", 0},
    {"lines", 'n', "N", "begin with the last N lines; default 100", 0},
    {"json", 0, NULL, "print every line as a JSON object", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag configure_flags[] = {
    {"context-size", 0, "N", "context length in tokens", 0},
    {"max-num-seqs", 0, "N", "answers computed at once", 0},
    {"max-num-batched-tokens", 0, "N", "tokens computed in one step", 0},
    {"kv-cache-type", 0, "f32|f16|bf16|q8_0", "number type of the key/value cache", 0},
    {"kv-cache-memory", 0, "BYTES", "memory of the key/value cache, such as 512M", 0},
    {"threads", 0, "N", "compute threads", 0},
    {"speculative-num-tokens", 0, "N",
     "tokens guessed ahead; answers are the same; 0: none, whatever else is declared", 0},
    {"speculative-draft-model", 0, "MODEL",
     "a smaller model of the same vocabulary guesses them, instead of the text itself", 0},
    {"speculative-min-acceptance-rate", 0, "X",
     "an answer of whose guesses fewer come true gets no more; default 0.1", 0},
    {"no-prepare", 0, NULL,
     "compute from its files as they are, and its draft model's: no second copy of their weights",
     0},
    {"prepare", 0, NULL, "the contrary, even where the daemon keeps none (--no-prepare)", 0},
    {"keep-alive", 0, "TIME",
     "how long it stays loaded without requests: 90s, 5m, 1h30m; -1: for ever", 0},
    {"pin", 0, NULL, "never unload it to make room, nor for want of requests", 0},
    {"no-pin", 0, NULL, "the contrary", 0},
    {"chat-template", 0, "FILE", "Jinja template to chat with, instead of the model's own", 0},
    {"temperature", 't', "X", "default of requests that do not say, as are those below", 0},
    {"top-p", 0, "X", "sample among the likeliest tokens whose probabilities add up to X", 0},
    {"min-p", 0, "X", "leave out tokens less than X times as likely as the likeliest", 0},
    {"top-k", 0, "N", "sample among the N likeliest tokens; 0: all", 0},
    {"repetition-penalty", 0, "X", "divides what has occurred in prompt or answer", 0},
    {"presence-penalty", 0, "X", "subtracted once for what the answer has used", 0},
    {"frequency-penalty", 0, "X", "subtracted for every use in the answer", 0},
    {"max-tokens", 'n', "N", "longest answer in tokens", 0},
    {"seed", 0, "N", "the same seed gives the same answer", 0},
    {"unset", 0, "SETTING", "take a setting back, by its flag's name (pinned for --pin)",
     CLI_REPEAT},
    {"reset", 0, NULL, "take all settings back first", 0},
    {"json", 0, NULL, "print what is declared then, as JSON", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag pull_flags[] = {
    {"locked", 0, NULL, "fetch the very bytes that berth.lock names, and nothing else", 0},
    {"quiet", 'q', NULL, "print the model's digest alone, and no progress", 0},
    {"json", 0, NULL, "print the daemon's events as they come, one JSON object a line", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag push_flags[] = {
    {"quiet", 'q', NULL, "print the model's digest alone, and no progress", 0},
    {"json", 0, NULL, "print the daemon's events as they come, one JSON object a line", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag package_flags[] = {
    {"gguf", 0, "FILE", "the weights: a GGUF file, of a split one the first part", 0},
    {"safetensors-dir", 0, "DIR",
     "the model: a folder of safetensors files with what is beside them", 0},
    {"safetensors", 0, "DIR", "same as --safetensors-dir", 0},
    {"dduf", 0, "FILE", "the model: a DDUF file", 0},
    {"from", 0, "MODEL", "a model of the store, to be changed by the flags below", 0},
    {"context-size", 0, "N", "context length in tokens that it is run with by default", 0},
    {"chat-template", 0, "FILE", "Jinja template to chat with, instead of the model's own", 0},
    {"license", 'l', "FILE", "a licence's text", CLI_REPEAT},
    {"mmproj", 0, "FILE", "multimodal projector (GGUF)", 0},
    {"lora", 0, "FILE", "LoRA adapter (GGUF)", CLI_REPEAT},
    {"format", 0, "docker|cncf", "how the artifact is described; default docker", 0},
    {"push", 0, NULL, "send it to its registry when it is packed", 0},
    {"output", 'o', "FILE", "write the artifact to a tar file instead, for `berth load`", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag lock_flags[] = {
    {"check", 0, NULL, "write nothing; tell what differs, and exit 1 if anything does", 0},
    {"apply", 0, NULL, "make the daemon as the lock says: fetch its bytes, declare its parameters",
     0},
    {"update", 'u', NULL, "lock what the registry has now, instead of what is here", 0},
    {"compose", 0, "FILE", "the Compose file, instead of the one in this folder", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag rm_flags[] = {
    {"force", 'f', NULL, "also what is loaded, or has several names", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag prune_flags[] = {
    {"keep-untagged", 0, NULL, "keep models that have lost their name", 0},
    {"older-than", 0, "TIME", "only what is older than this: 36h, 7d", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag verify_flags[] = {
    {"repair", 0, NULL, "take away what is corrupt, so that it can be pulled anew", 0},
    {"json", 0, NULL, "print the daemon's events as they come, one JSON object a line", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag export_flags[] = {
    {"output", 'o', "FILE", "where it goes; - or nothing: standard output", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag load_flags[] = {
    {"input", 'i', "FILE", "where it comes from; - or nothing: standard input", 0},
    {"json", 0, NULL, "print the daemon's events as they come, one JSON object a line", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag search_flags[] = {
    {"limit", 'n', "N", "most results of each source, up to 100; default 32", 0},
    {"source", 0, "all|dockerhub|docker|hub|huggingface|hf", "where to look; default all", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag show_flags[] = {
    {"remote", 'r', NULL, "ask the registry, and store nothing", 0},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag stop_flags[] = {
    {"all", 'a', NULL, "every loaded model", CLI_ONE_OF},
    {"daemon", 0, NULL, "the daemon itself, and with it every model", CLI_ONE_OF},
    {"json", 0, NULL, "print JSON for machines", 0},
    {NULL, 0, NULL, NULL, 0}};

static const struct cli_flag logits_flags[] = {
    {"tokens", 0, "IDS", "token ids, separated by commas", CLI_REQUIRED},
    {"out", 'o', "FILE", "where the numbers go", CLI_REQUIRED},
    {NULL, 0, NULL, NULL, false}};

static const struct cli_flag tokenize_flags[] = {
    {"file", 'f', "FILE", "the text; - for standard input", CLI_REQUIRED},
    {"special", 0, NULL,
     "add what the model puts around a text (BOS, EOS), and read text that spells a control "
     "token as that token",
     false},
    {NULL, 0, NULL, NULL, false}};

static const struct cli_flag detokenize_flags[] = {
    {"tokens", 0, "IDS", "token ids, separated by commas or spaces", CLI_ONE_OF},
    {"file", 'f', "FILE", "a file of token ids; - for standard input", CLI_ONE_OF},
    {"special", 0, NULL, "write control tokens out instead of leaving them away", false},
    {NULL, 0, NULL, NULL, false}};

static const struct cli_flag render_flags[] = {
    {"context", 'c', "FILE",
     "JSON object whose keys are the template's variables; - for standard input", CLI_REQUIRED},
    {"now", 0, "UNIX", "the time that strftime_now tells, in seconds since 1970, UTC; default: now",
     false},
    {NULL, 0, NULL, NULL, false}};

static const struct cli_command commands[] = {
    {"run", "MODEL [PROMPT...]", 1, CLI_MAX_OPERANDS, CLI_ROLE_CLI, cmd_run,
     "answer a prompt, or converse",
     "Loads MODEL into the daemon, asks it, and prints the answer as it comes. MODEL is a name "
     "from `berth list`, a registry's (ai/smollm2, hf.co/ORG/NAME), or the path of a file (it "
     "begins "
     "with a slash or a dot or ends in .gguf). "
     "Where no daemon listens, one is started in the background, which ends after five idle "
     "minutes; a line on standard error says so.\n"
     "A model that has a chat template is asked as a chat, one that has none continues the prompt. "
     "The words of PROMPT are joined by spaces; a pipe or file on standard input follows them "
     "after "
     "an empty line, or is the prompt where there are none (one final newline is dropped).\n"
     "Without PROMPT, on a terminal, a conversation begins: /? lists its commands, Ctrl-C stops an "
     "answer, Ctrl-D ends. Lines are kept for arrow-up in ~/.local/state/berth/chat_history.\n"
     "Into a pipe or file the answer goes byte for byte. On a terminal Markdown becomes styles, "
     "and "
     "control characters are shown instead of obeyed; a reasoning model's thinking is dim there, "
     "and left out of pipes.\n"
     "Every parameter left away takes the server's default, except for the seed, which is drawn "
     "and, with --verbose, told. Ctrl-C cancels the answer and exits 130.",
     "berth run stories \"Once upon a time\"\tcomplete a text\n"
     "berth run ./model.gguf --system \"Be brief.\" \"Why is the sky blue?\"\tchat with a file\n"
     "berth run stories-chat\tconverse\n"
     "berth run stories-chat \"Summarise this:\" < notes.txt\task about a file\n"
     "berth run stories -t 0 --max-tokens 40 < prompt.txt\tlikeliest continuation of a file\n",
     run_flags, WHERE | BIT(keep_alive) | BIT(history) | REGISTRY},
    {"serve", "", 0, 0, CLI_ROLE_SERVE, NULL, "answer requests over HTTP until stopped",
     "Runs the daemon in the foreground: an OpenAI-compatible API at http://ADDR:PORT/v1 (models, "
     "completions, "
     "chat/completions, streaming or not) and /health. A model is loaded by the first request that "
     "names it, each in "
     "a process of its own, without network and under a system-call filter. Logs go to standard "
     "error. SIGTERM and "
     "SIGINT end it after running answers, a second one at once; SIGHUP reads keys and certificate "
     "again and begins log files anew.\n"
     "The file of --api-keys has a line `NAME SCOPES KEY` for each client: SCOPES is infer, manage "
     "or infer,manage, KEY the key or sha256: and its hash in hex; # begins a comment. Nobody but "
     "its owner may read it. `openssl rand -hex 24` makes a key; clients send it as Authorization: "
     "Bearer KEY.\n"
     "Every flag may also stand in the environment, as BERTH_ and its name in capitals with _ for "
     "-, or in the file "
     "~/.config/berth/config (else /etc/berth/config) as `name = value`. A flag overrides the "
     "environment, and that "
     "the file.",
     "berth serve\tlisten on 127.0.0.1:12434\n"
     "berth serve --host 0.0.0.0 --api-keys /etc/berth/keys --models-dir /srv/models\t"
     "serve a folder to the network, to clients with keys\n",
     serve_flags, SERVE},
    {"list", "", 0, 0, CLI_ROLE_CLI, cmd_list, "the models there are",
     "Lists the models of the daemon's store, those that it finds in its models-dir, and those it "
     "was "
     "given as paths. "
     "Where no daemon "
     "listens, one is started, as by `berth run`.",
     NULL, list_flags, WHERE | BIT(models_dir)},
    {"pull", "MODEL...", 1, CLI_MAX_OPERANDS, CLI_ROLE_CLI, cmd_pull,
     "fetch a model from its registry",
     "Has the daemon fetch MODEL into its store: NAME, NAME:TAG or NAME@sha256:DIGEST of Docker "
     "Hub "
     "(namespace ai/ where none is given), REGISTRY/NAME of another registry, or hf.co/ORG/NAME of "
     "Hugging Face. Every file is checked against its digest before it counts. A pull that is "
     "interrupted goes on where it stopped, and what is there already is not fetched again. Ctrl-C "
     "ends the pull and exits 130. Prints the model's digest, by which it can be pinned.",
     "berth pull smollm2\tai/smollm2:latest of Docker Hub\n"
     "berth pull registry.example/models/chat:v3 --json\tfor machines\n"
     "berth pull --locked smollm2\tthe bytes of berth.lock\n",
     pull_flags, WHERE | REGISTRY},
    {"package", "[NAME]", 0, 1, CLI_ROLE_CLI, cmd_package, "make a model of files",
     "Makes an artifact of a GGUF file, a folder of safetensors or a DDUF file, or of a stored "
     "MODEL "
     "with something changed, and puts it into the daemon's store as NAME (NAME:TAG). What the "
     "weights "
     "say of themselves (architecture, parameters, quantization, context) is read by a process of "
     "its "
     "own, in the sandbox of a worker, and written into the artifact. The same files under the "
     "same names "
     "with the same flags give the same digest, on any machine and at any time; SOURCE_DATE_EPOCH "
     "in "
     "the environment adds a time of creation. Files whose names begin with a dot are left out of "
     "a "
     "folder.\n"
     "With -o FILE it becomes a tar file instead, and no daemon is asked. Docker Model Runner runs "
     "what "
     "is packaged here; --format cncf makes a CNCF ModelPack.",
     "berth package --gguf ./model.gguf --license LICENSE registry.example/team/model:v1 --push\t\n"
     "berth package --safetensors-dir ./qwen team/qwen:bf16\t\n"
     "berth package --from team/qwen:bf16 --context-size 8192 team/qwen:8k\tthe weights are not "
     "stored twice\n",
     package_flags, WHERE | BIT(hf_token)},
    {"push", "MODEL...", 1, CLI_MAX_OPERANDS, CLI_ROLE_CLI, cmd_push,
     "send a model to its registry",
     "Has the daemon send MODEL from its store to the registry that its name says, with the "
     "daemon's "
     "credentials (`docker login` makes them). Only what the registry lacks is sent.",
     "berth tag smollm2 registry.example/models/chat:v3\t\n"
     "berth push registry.example/models/chat:v3\t\n",
     push_flags, WHERE | REGISTRY},
    {"tag", "MODEL NAME", 2, 2, CLI_ROLE_CLI, cmd_tag, "give a stored model a further name",
     "Makes NAME (NAME:TAG) mean the model that MODEL means now. A name that meant another model "
     "leaves it, in one step; that one stays, untagged if it has no other, until `berth prune`.",
     NULL, json_flags, WHERE},
    {"rm", "MODEL...", 1, CLI_MAX_OPERANDS, CLI_ROLE_CLI, cmd_rm, "remove models from the store",
     "Takes the name MODEL away, and with its last name the model and the files that no other "
     "model "
     "has. By an id, the model with its name. Refused while it is loaded or, by an id, while it "
     "has "
     "several names, unless --force is given. Files of models-dir are not the store's: remove "
     "them yourself.",
     NULL, rm_flags, WHERE},
    {"prune", "", 0, 0, CLI_ROLE_CLI, cmd_prune, "free what no name leads to",
     "Removes models that have no name, and files of no model: parts of abandoned pulls, too. What "
     "is loaded stays.",
     NULL, prune_flags, WHERE},
    {"verify", "", 0, 0, CLI_ROLE_CLI, cmd_verify, "check every byte of the store",
     "Reads every file of the daemon's store and compares it with its digest. Exits 1 when "
     "something is wrong and was not repaired.",
     NULL, verify_flags, WHERE},
    {"export", "MODEL", 1, 1, CLI_ROLE_CLI, cmd_export, "write a stored model to a tar file",
     "The file holds the model as an artifact, as Docker Model Runner exports it: `berth load` and "
     "`docker model` read it.",
     "berth export smollm2 -o smollm2.tar\t\n"
     "berth export smollm2 | ssh other berth load smollm2\tto a machine without a registry\n",
     export_flags, WHERE},
    {"load", "[NAME]", 0, 1, CLI_ROLE_CLI, cmd_load, "take a model from a tar file into the store",
     "Reads what `berth export`, `berth package -o` or Docker Model Runner wrote. The file holds "
     "no "
     "name: with NAME the model gets this one, else it is known by its digest alone.",
     "berth load -i smollm2.tar smollm2\t\n", load_flags, WHERE},
    {"lock", "[MODEL...]", 0, CLI_MAX_OPERANDS, CLI_ROLE_CLI, cmd_lock,
     "pin a project's models in berth.lock",
     "Writes berth.lock into the current folder: for each MODEL its digest and the parameters that "
     "are declared of it, and the engine's version. Without MODEL, the models that compose.yaml "
     "(or "
     "compose.yml, docker-compose.yaml, docker-compose.yml) names under `models:` and in services "
     "of "
     "`provider: {type: model}`, with context_size and runtime_flags; else those of the berth.lock "
     "that is there. A model that is not in the store is asked of its registry. The file belongs "
     "into "
     "version control.\n"
     "`berth pull --locked` then fetches these very bytes, and `berth run --locked` refuses when "
     "model, parameters or engine are others, naming what differs. --apply makes the daemon as the "
     "lock "
     "says; --check is for continuous integration.",
     "berth lock smollm2\tpin one model\n"
     "berth lock\tpin what compose.yaml declares\n"
     "berth lock --check\tin a test of the project\n"
     "berth lock --apply\ton another machine\n",
     lock_flags, WHERE | REGISTRY},
    {"import", "DIR", 1, 1, CLI_ROLE_CLI, cmd_import, "take over the models of Docker Model Runner",
     "Reads the store of Docker Model Runner in DIR (its MODELS_PATH, which holds models.json) and "
     "takes its models with their names into berth's, without copying where both lie on one file "
     "system. DIR stays as it is. It must be on the daemon's machine.",
     "berth import ~/.docker/models\t\n", json_flags, WHERE},
    {"search", "[TERM]", 0, 1, CLI_ROLE_CLI, cmd_search,
     "look for models on Docker Hub and Hugging Face",
     "Lists models whose names have TERM in them, or any: those of Docker Hub's ai namespace, then "
     "Hugging Face's, the most often downloaded of each first; `berth pull NAME` fetches one. The "
     "daemon asks, at its hub-search-endpoint and hf-endpoint. Where one of the two does not "
     "answer, a line on standard error says so. The hubs tell no sizes in their lists, and BACKEND "
     "is what the model's tags or name suggest: berth loads those of llama.cpp.",
     "berth search smollm2\t\n"
     "berth search --source huggingface -n 5 qwen3\t\n",
     search_flags, WHERE},
    {"show", "MODEL", 1, 1, CLI_ROLE_CLI, cmd_show, "what a model of the store or a registry is",
     "Prints names, digest, format, size and what is declared of MODEL in its artifact, then its "
     "metadata. `berth inspect` tells how the daemon runs it.",
     "berth show smollm2 --remote\tbefore pulling it\n", show_flags, WHERE},
    {"ps", "", 0, 0, CLI_ROLE_CLI, cmd_ps, "the models that are loaded",
     "Lists loaded models, the memory that each one planned, the answers it computes and those "
     "that wait, and until when it stays loaded if nobody asks it. Starts no daemon: where none "
     "listens, nothing is loaded.",
     NULL, json_flags, WHERE},
    {"stop", "[MODEL]", 0, 1, CLI_ROLE_CLI, cmd_stop, "unload a model, or end the daemon",
     "Ends MODEL's process and gives its memory back; answers under way end with an error. Exactly "
     "one of MODEL, "
     "--all and --daemon; MODEL is a name from `berth ps` or the path of its file. It is an error "
     "when MODEL is not "
     "loaded; --all and --daemon are content with nothing to do.",
     NULL, stop_flags, WHERE},
    {"inspect", "MODEL", 1, 1, CLI_ROLE_CLI, cmd_inspect, "everything about one model",
     "Prints what the daemon knows of MODEL (state, digest, memory, requests, what is declared) "
     "and "
     "what its file says of itself. MODEL is a name or a path. The file is read by a process of "
     "its own in the sandbox of a worker. Starts no daemon: where none listens, the file alone "
     "speaks.",
     "berth inspect stories\ta model of models-dir\n"
     "berth inspect ./model.gguf --json\ta file, every tensor included\n"
     "berth inspect ai/smollm2 --remote\twhat the registry has under this name\n",
     show_flags, WHERE | BIT(models_dir)},
    {"status", "", 0, 0, CLI_ROLE_CLI, cmd_status, "whether a daemon runs, and how it is",
     "Prints its address, version, models, memory, requests and connections. Exits 1 where none "
     "runs.",
     NULL, json_flags, WHERE},
    {"logs", "", 0, 0, CLI_ROLE_CLI, cmd_logs, "the daemon's log",
     "Prints the last lines that the daemon logged; logs hold no prompts. Where no daemon runs, "
     "those that the last one left which another command had started.",
     "berth logs -f\tthe last 100 lines and all that follow\n"
     "berth logs -n 1000 --json | jq .\tfor machines; richer with `berth serve --log-format "
     "json`\n",
     logs_flags, WHERE},
    {"df", "", 0, 0, CLI_ROLE_CLI, cmd_df, "what berth's files take on disk",
     "Adds up the daemon's store, model files by folder, logs and other state, and says what is "
     "free there. Units are "
     "powers of 1000.",
     NULL, json_flags, WHERE | BIT(models_dir)},
    {"keys", "", 0, 0, CLI_ROLE_CLI, cmd_keys, "the daemon's keys, and what each was used for",
     "Lists the names in the daemon's --api-keys file with scopes, requests and tokens since the "
     "daemon started. Keys themselves are never shown; the daemon does not have them. Needs a key "
     "of scope manage, or the daemon's Unix socket.",
     NULL, json_flags, WHERE},
    {"configure", "MODEL", 1, 1, CLI_ROLE_CLI, cmd_configure, "declare settings of one model",
     "Declares how MODEL is loaded, how long it stays, and the defaults of requests that do not "
     "say. The daemon keeps it, also across restarts. A setting that is not mentioned stays as it "
     "is. A change of those that shape loading unloads the model; its next request loads it anew. "
     "MODEL is a name or a path.",
     "berth configure stories --context-size 1024 --keep-alive 1h\t\n"
     "berth configure stories --temperature 0 --unset context-size\t\n"
     "berth configure stories --reset\tas if nothing had been declared\n",
     configure_flags, WHERE},
    {"configure show", "[MODEL]", 0, 1, CLI_ROLE_CLI, cmd_configure_show,
     "what is declared of models", "Prints the settings of MODEL, or of every model that has some.",
     NULL, json_flags, WHERE},
    {"config show", "[OPTION]", 0, 1, CLI_ROLE_CLI, cmd_config_show,
     "every option's value, and where it came from",
     "Prints what counts now: the value of each option and whether it came from a flag, the "
     "environment, the file (with the line) or is the default. With OPTION, its value alone. "
     "Secrets are shown as (set). The flags of `berth serve` may be given, to see what they would "
     "change.",
     "berth config show\t\nberth config show port\tthe value alone, for scripts\n", json_flags,
     ALL},
    {"config path", "", 0, 0, CLI_ROLE_CLI, cmd_config_path, "the file that options are read from",
     "Prints the path of the file that --config or BERTH_CONFIG names, else of "
     "~/.config/berth/config ($XDG_CONFIG_HOME), else of /etc/berth/config. Where there is none, "
     "the first of them is the one to make.",
     NULL, path_flags, 0},
    {"config check", "[FILE]", 0, 1, CLI_ROLE_CLI, cmd_config_check, "the mistakes in a file",
     "Reads FILE, or the file that is in use, and prints every mistake with its line. Exits 1 "
     "where there is one.",
     "berth config check /etc/berth/config\tbefore a restart\n", path_flags, 0},
    {"bench", "MODEL", 1, 1, CLI_ROLE_CLI, cmd_bench, "throughput and latency under load",
     "Loads MODEL and has it answer prompts of equal length, so many at once, level by level: "
     "streamed completions over HTTP, a connection each, as clients that do not know each other. "
     "Tells requests and tokens a second; the time to the first token (TTFT, connecting included), "
     "per further token of an answer (TPOT), between pieces (ITL) and to the last (E2E); the "
     "memory "
     "of the processes; and what that is of the machine's own limits, which it measures first (as "
     "`berth bench limits` does). No two prompts begin alike, so that none is found in the cache. "
     "With --vs another server, such as llama.cpp's or vLLM's, gets the same prompts, round by "
     "round in turns, and ratios are printed. Exits 1 when a request failed. docs/BENCH.md tells "
     "what every figure means.",
     "berth bench stories --concurrency 1,8 --duration 5s\t\n"
     "berth bench ./model.gguf --num-prompts 100 --prompt-len 512 --output-len 128 --json\t\n"
     "berth bench ./model.gguf -c 1,16 --vs http://127.0.0.1:8080\tbeside llama-server\n",
     bench_flags, WHERE | REGISTRY},
    {"bench limits", "", 0, 0, CLI_ROLE_DEBUG, NULL, "what this machine can do at most",
     "Measures, with all compute threads: bytes read from memory a second, and operations a second "
     "of every unit that multiplies (FMA, VNNI, BF16, AMX; on Arm NEON and its extensions). An "
     "operation is a multiplication or an addition. No model is read and no daemon asked; best on "
     "a machine that does nothing else.",
     "berth bench limits --threads 1\t\n", json_flags, BIT(threads)},
    {"bench kernels", "", 0, 0, CLI_ROLE_DEBUG, NULL, "how fast the engine's own routines are",
     "For every type of weights, with all compute threads: bytes of weights read a second for one "
     "token (what decoding is made of) and for eight, as shares of the memory bus, and operations "
     "a "
     "second for 512 tokens (what reading a prompt is made of) as a share of the best unit's peak; "
     "then attention. --cpu chooses an instruction set.",
     "berth bench kernels --type Q4_K\t\n", bench_kernels_flags, BIT(threads) | BIT(cpu)},
    {"version", "", 0, 0, CLI_ROLE_CLI, cmd_version, "versions of this program and of the daemon",
     "Prints the version of this program, and of the daemon when one answers within a "
     "quarter of a second. Starts no daemon.",
     NULL, json_flags, WHERE},
    {"help", "[COMMAND]", 0, 2, CLI_ROLE_CLI, cmd_help, "this list, or the page of one command",
     "`berth COMMAND --help` prints the same page; so does man(1) where berth is installed "
     "(`man berth-run`).",
     NULL, help_flags, 0},
    {"completion", "bash|zsh|fish", 1, 1, CLI_ROLE_CLI, cmd_completion,
     "what a shell needs to complete berth's commands",
     "Prints a script for that shell. Where berth is installed by `make install` or a "
     "package, the shell finds it by itself. Models are completed by name; no daemon is started "
     "for that.",
     "source <(berth completion bash)\tin ~/.bashrc\n"
     "berth completion zsh > ~/.zsh/completions/_berth\ta folder of zsh's fpath\n"
     "berth completion fish > ~/.config/fish/completions/berth.fish\t\n",
     NULL, 0},
    {"debug logits", "MODEL", 1, 1, CLI_ROLE_DEBUG, NULL, "next-token logits at each position",
     "Computes MODEL over the given token ids and writes float32 in the machine's byte order to "
     "FILE, row by row: "
     "one row per position, one number per vocabulary entry. The key/value cache is f32 unless "
     "--kv-cache-type says "
     "otherwise, so that the result is the reference. MODEL is a name from models-dir or a path.",
     "berth debug logits stories --tokens 1,403,407 --out logits.f32\tthree rows of 512 numbers\n",
     logits_flags,
     BIT(models_dir) | BIT(threads) | BIT(kv_cache_type) | BIT(cpu) | BIT(block_size) |
         BIT(max_num_batched_tokens)},
    {"debug tokenize", "MODEL", 1, 1, CLI_ROLE_DEBUG, NULL, "token ids of a text",
     "Prints the ids on one line, separated by spaces. The text is taken byte for byte as it is. "
     "Without --special "
     "nothing is added around it, and text that spells a control token is plain text.",
     "printf 'Once upon a time' | berth debug tokenize stories --file -\t\n", tokenize_flags,
     BIT(models_dir)},
    {"debug detokenize", "MODEL", 1, 1, CLI_ROLE_DEBUG, NULL, "text of token ids",
     "Prints the text byte for byte, with nothing added. Exactly one of --tokens and --file.",
     "berth debug detokenize stories --tokens 403,407,261,378\t\n", detokenize_flags,
     BIT(models_dir)},
    {"debug render", "TEMPLATE", 1, 1, CLI_ROLE_DEBUG, NULL, "a chat template's rendering",
     "Renders the Jinja template in the file TEMPLATE with the variables of a JSON object, byte "
     "for byte. An error of "
     "the template exits 1 with its message.",
     "berth debug render chat.jinja --context '-' < context.json\t\n", render_flags, 0},
    {"debug show", "FILE", 1, 1, CLI_ROLE_DEBUG, NULL,
     "what a model file says about itself, as JSON",
     "Prints the header of a GGUF file: version, metadata, tensors. Other formats are refused by "
     "name.",
     NULL, NULL, BIT(models_dir)},
    {"debug plan", "MODEL", 1, 1, CLI_ROLE_DEBUG, NULL,
     "the memory that a load would take, without loading",
     "Prints the plan line by line. The flags are those of `berth serve`. The last line is the "
     "limit that the total is "
     "held against, the machine's memory; a load that plans more is refused.",
     "berth debug plan stories --max-model-len 512 --max-num-seqs 32\t\n", NULL,
     BIT(models_dir) | ENGINE},
};

const struct cli_command *cli_commands(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(commands);
    return commands;
}

static const struct cli_group groups[] = {
    {"config", "what is set, and where it came from",
     "Options come from flags, the environment and one file."},
    {"debug", "look inside models, tokenizers and templates",
     "They run in the calling process, in the sandbox of a worker, and need no daemon."},
};

const struct cli_group *cli_groups(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(groups);
    return groups;
}
