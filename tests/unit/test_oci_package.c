/* SPDX-License-Identifier: Apache-2.0 */
/* Configs of both kinds are read and written; artifacts are built from files, the same from the
 * same, and an artifact is taken apart and changed. */
#include "tests/support/cmocka_all.h"

#include <string.h>

#include "lib/base/limits.h"
#include "lib/oci/package.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define D3 "sha256:3333333333333333333333333333333333333333333333333333333333333333"

/* As Docker Model Runner writes it: what it documents of smollm2, with a time in another zone. */
static const char docker_text[] =
    "{\"config\":{\"format\":\"gguf\",\"quantization\":\"IQ2_XXS/Q4_K_M\",\"parameters\":"
    "\"361.82M\",\"architecture\":\"llama\",\"size\":\"256.35MiB\",\"gguf\":{\"general.name\":"
    "\"Smollm2 360M\",\"general.architecture\":\"llama\"},\"context_size\":8192},"
    "\"descriptor\":{\"created\":\"2025-03-24T13:49:41.123456789+02:00\"},"
    "\"rootfs\":{\"type\":\"rootfs\",\"diff_ids\":[\"" D1 "\",\"" D2 "\"]},\"new\":{\"x\":1}}";

static const char docker_written[] =
    "{\"config\":{\"format\":\"gguf\",\"quantization\":\"IQ2_XXS/Q4_K_M\",\"parameters\":"
    "\"361.82M\",\"architecture\":\"llama\",\"size\":\"256.35MiB\",\"gguf\":{"
    "\"general.architecture\":\"llama\",\"general.name\":\"Smollm2 360M\"},\"context_size\":8192},"
    "\"descriptor\":{\"created\":\"2025-03-24T11:49:41Z\"},"
    "\"rootfs\":{\"type\":\"rootfs\",\"diff_ids\":[\"" D1 "\",\"" D2 "\"]}}";

static const char cncf_text[] =
    "{\"descriptor\":{\"createdAt\":\"2025-01-01T00:00:00Z\",\"authors\":[\"A\",\"B\"],"
    "\"family\":\"qwen2\",\"name\":\"n\",\"licenses\":[\"Apache-2.0\"]},"
    "\"modelfs\":{\"type\":\"layers\",\"diffIds\":[\"" D3 "\"]},"
    "\"config\":{\"architecture\":\"transformer\",\"format\":\"GGUF\",\"paramSize\":\"8b\","
    "\"precision\":\"fp16\",\"capabilities\":{\"inputTypes\":[\"text\"],\"reasoning\":true}}}";

static void test_configs(void **state)
{
    (void)state;
    struct arena a;
    struct oci_config c;
    struct err err = ERR_INIT;
    struct buf out;
    arena_init(&a, 1 << 20);
    buf_init(&out, 1 << 20);
    assert_int_equal(oci_config_parse(str_from(docker_text), MEDIA_DOCKER_CONFIG_V01, &a, &c, &err),
                     0);
    assert_int_equal(c.kind, OCI_CONFIG_DOCKER_V01);
    assert_string_equal(c.format, "gguf");
    assert_string_equal(c.parameters, "361.82M");
    assert_int_equal(c.context_size, 8192);
    assert_int_equal(c.gguf.n, 2);
    assert_int_equal(c.created_unix, 1742816981);
    assert_int_equal(c.diff_ids.n, 2);
    oci_config_put(&c, &out);
    assert_string_equal(buf_str(&out), docker_written);
    buf_clear(&out);
    oci_config_put_inner(&c, &out);
    assert_true(strstr(docker_written, buf_str(&out)) == docker_written + 10);

    assert_int_equal(oci_config_parse(str_from(cncf_text), MEDIA_UNKNOWN, &a, &c, &err), 0);
    assert_int_equal(c.kind, OCI_CONFIG_CNCF);
    assert_string_equal(c.format, "gguf");
    assert_string_equal(c.parameters, "8b");
    assert_string_equal(c.cncf.family, "qwen2");
    assert_int_equal(c.cncf.authors.n, 2);
    assert_int_equal(c.created_unix, 1735689600);
    buf_clear(&out);
    oci_config_put(&c, &out);
    struct oci_config again;
    assert_int_equal(oci_config_parse(str_from(buf_str(&out)), MEDIA_CNCF_CONFIG, &a, &again, &err),
                     0);
    assert_string_equal(again.cncf.capabilities, c.cncf.capabilities);
    assert_string_equal(again.cncf.precision, "fp16");
    assert_string_equal(again.diff_ids.items[0], D3);
    buf_release(&out);
    arena_release(&a);
}

static void test_hostile_configs(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"", E_FORMAT},
        {"[]", E_FORMAT},
        {"{\"config\":[]}", E_INVALID},
        {"{\"config\":{\"format\":7}}", E_INVALID},
        {"{\"config\":{\"format\":\"g\\u0000uf\"}}", E_FORMAT},
        {"{\"config\":{\"context_size\":4294967296}}", E_INVALID},
        {"{\"config\":{\"context_size\":\"8k\"}}", E_INVALID},
        {"{\"config\":{\"gguf\":{\"a\":\"1\",\"a\":\"2\"}}}", E_FORMAT},
        {"{\"descriptor\":{\"created\":\"yesterday\"}}", E_FORMAT},
        {"{\"descriptor\":{\"created\":\"2025-13-01T00:00:00Z\"}}", E_FORMAT},
        {"{\"rootfs\":{\"diff_ids\":[1]}}", E_FORMAT},
        {"{\"modelfs\":{\"diffIds\":{}}}", E_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena a;
        struct oci_config c;
        struct err err = ERR_INIT;
        arena_init(&a, 1 << 20);
        int rc = oci_config_parse(str_from(cases[i].text), MEDIA_UNKNOWN, &a, &c, &err);
        if (rc != -cases[i].code)
            fail_msg("case %zu: %d '%s'", i, rc, err.msg);
        arena_release(&a);
    }
    /* What is no number of tokens, and metadata that is no string, do not make a model unreadable.
     */
    static const char odd[] = "{\"config\":{\"context_size\":-1,\"gguf\":{\"n\":3,\"l\":[1,2]}}}";
    struct arena a;
    struct oci_config c;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    assert_int_equal(oci_config_parse(str_from(odd), MEDIA_UNKNOWN, &a, &c, &err), 0);
    assert_int_equal(c.context_size, 0);
    assert_string_equal(c.gguf.items[0].value, "3");
    assert_string_equal(c.gguf.items[1].value, "[1,2]");
    assert_int_equal(oci_config_parse(str_from("{}"), MEDIA_DOCKER_GGUF, &a, &c, &err),
                     -E_UNSUPPORTED);
    arena_release(&a);
}

static void test_human(void **state)
{
    (void)state;
    char s[OCI_HUMAN_CHARS];
    static const struct {
        uint64_t n;
        const char *count, *bytes;
    } cases[] = {{0, "0", "0B"},
                 {999, "999", "999B"},
                 {361821120, "361.82M", "345.06MiB"},
                 {8030000000ull, "8.03B", "7.48GiB"},
                 {UINT64_MAX, "18446744.07T", "16384.00PiB"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        oci_put_human_count(cases[i].n, s);
        assert_string_equal(s, cases[i].count);
        oci_put_human_bytes(cases[i].n, s);
        assert_string_equal(s, cases[i].bytes);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum oci_role role;
    } cases[] = {{"model.gguf", ROLE_GGUF},
                 {"a/b/Model-00001-of-00002.GGUF", ROLE_GGUF},
                 {"mmproj-model-f16.gguf", ROLE_MMPROJ},
                 {"x.mmproj", ROLE_MMPROJ},
                 {"model.safetensors", ROLE_SAFETENSORS},
                 {"model.safetensors.index.json", ROLE_FILE},
                 {"x.dduf", ROLE_DDUF},
                 {"chat_template.json", ROLE_TEMPLATE},
                 {"t.jinja", ROLE_TEMPLATE},
                 {"LICENSE.txt", ROLE_LICENSE},
                 {"licence", ROLE_LICENSE},
                 {"COPYING", ROLE_LICENSE},
                 {"license/readme", ROLE_FILE},
                 {"tokenizer.model", ROLE_FILE},
                 {"README.md", ROLE_FILE}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (oci_role_of_name(cases[i].name) != cases[i].role)
            fail_msg("%s: %d", cases[i].name, oci_role_of_name(cases[i].name));
    }
}

static struct oci_file file(const char *path, enum oci_role role, const char *digest, uint64_t size)
{
    struct oci_file f = {.path = path, .role = role, .size = size};
    memcpy(f.digest, digest, sizeof(f.digest));
    return f;
}

static void add(struct oci_package *p, struct arena *a, const char *path, enum oci_role role,
                const char *digest, uint64_t size)
{
    struct err err = ERR_INIT;
    struct oci_file f = file(path, role, digest, size);
    if (oci_package_add(p, &f, a, &err) < 0)
        fail_msg("%s", err.msg);
}

static void build(const struct oci_package *p, struct arena *a, struct buf *config,
                  struct buf *manifest)
{
    struct err err = ERR_INIT;
    if (oci_package_build(p, a, config, manifest, &err) < 0)
        fail_msg("%s", err.msg);
}

#define NOTES(name, size, path)                                                                    \
    "\"annotations\":{\"org.cncf.model.file.mediatype.untested\":\"false\","                       \
    "\"org.cncf.model.file.metadata+json\":\"{\\\"name\\\":\\\"" name                              \
    "\\\",\\\"mode\\\":420,\\\"uid\\\":0,\\\"gid\\\":0,\\\"size\\\":" size                         \
    ",\\\"mtime\\\":\\\"1970-01-01T00:00:00Z\\\",\\\"typeflag\\\":0}\","                           \
    "\"org.cncf.model.filepath\":\"" path "\",\"org.opencontainers.image.title\":\"" path "\"}"

static void test_gguf_package(void **state)
{
    (void)state;
    struct arena a;
    struct oci_package p;
    struct buf config, manifest;
    arena_init(&a, 1 << 20);
    oci_package_init(&p, oci_package_kind("gguf", false));
    p.config.format = "gguf";
    p.config.architecture = "llama";
    p.config.context_size = 2048;
    add(&p, &a, "LICENSE", ROLE_LICENSE, D3, 5);
    add(&p, &a, "m.gguf", ROLE_GGUF, D1, 100);
    add(&p, &a, "old.jinja", ROLE_TEMPLATE, D1, 7);
    add(&p, &a, "t.jinja", ROLE_TEMPLATE, D2, 7);
    build(&p, &a, &config, &manifest);
    assert_string_equal(buf_str(&config),
                        "{\"config\":{\"format\":\"gguf\",\"architecture\":\"llama\","
                        "\"context_size\":2048},\"descriptor\":{},\"rootfs\":{\"type\":\"rootfs\","
                        "\"diff_ids\":[\"" D1 "\",\"" D2 "\",\"" D3 "\"]}}");
    /* the config's digest: sha256sum of the line above */
    const char *expected =
        "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
        "\"config\":{\"mediaType\":\"application/vnd.docker.ai.model.config.v0.1+json\","
        "\"digest\":\"sha256:e74402d573b101eb3404b7e97b9cc7d29c8e455a0456fdb81705f73e093b1938\","
        "\"size\":349},\"layers\":["
        "{\"mediaType\":\"application/vnd.docker.ai.gguf.v3\",\"digest\":\"" D1
        "\",\"size\":100," NOTES(
            "m.gguf", "100",
            "m.gguf") "},"
                      "{\"mediaType\":\"application/"
                      "vnd.docker.ai.chat.template.jinja\",\"digest\":\"" D2 "\",\"size\":7," NOTES(
                          "t.jinja", "7", "t.jinja") "},"
                                                     "{\"mediaType\":\"application/"
                                                     "vnd.docker.ai.license\",\"digest\":\"" D3
                                                     "\",\"size\":5," NOTES("LICENSE", "5",
                                                                            "LICENSE") "}]}";
    assert_string_equal(buf_str(&manifest), expected);
    buf_release(&config);
    buf_release(&manifest);
    arena_release(&a);
}

/* The order in which files are found, and the process they are packaged in, make no difference. */
static void test_folder_package(void **state)
{
    (void)state;
    static const char *const paths[] = {"model-00001-of-00002.safetensors",
                                        "config.json",
                                        "text/model.safetensors",
                                        "chat_template.jinja",
                                        "LICENSE",
                                        "text/config.json"};
    struct buf configs[2], manifests[2];
    struct arena a;
    struct oci_manifest m;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    for (int pass = 0; pass < 2; pass++) {
        struct oci_package p;
        oci_package_init(&p, oci_package_kind("safetensors", false));
        p.config.format = "safetensors";
        const struct oci_pair pairs[] = {{"b", "2"}, {"a", "1"}}, swapped[] = {pairs[1], pairs[0]};
        p.config.safetensors = (struct oci_pairs){pass ? swapped : pairs, 2};
        for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
            const char *path = paths[pass ? ARRAY_LEN(paths) - 1 - i : i];
            add(&p, &a, path, oci_role_of_name(path), path[0] == 'L' ? D2 : D1, strlen(path));
        }
        build(&p, &a, &configs[pass], &manifests[pass]);
    }
    assert_string_equal(buf_str(&configs[0]), buf_str(&configs[1]));
    assert_string_equal(buf_str(&manifests[0]), buf_str(&manifests[1]));
    assert_int_equal(oci_manifest_parse(str_from(buf_str(&manifests[0])), &a, &m, &err), 0);
    assert_int_equal(m.config.media, MEDIA_DOCKER_CONFIG_V02);
    assert_int_equal(m.n_layers, 6);
    assert_string_equal(m.layers[0].path, "LICENSE");
    assert_int_equal(m.layers[1].role, ROLE_TEMPLATE);
    assert_string_equal(m.layers[5].path, "text/model.safetensors");
    for (int i = 0; i < 2; i++) {
        buf_release(&configs[i]);
        buf_release(&manifests[i]);
    }
    arena_release(&a);
}

static void test_cncf_package(void **state)
{
    (void)state;
    struct arena a;
    struct oci_package p;
    struct buf config, manifest;
    struct oci_manifest m;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    oci_package_init(&p, oci_package_kind("gguf", true));
    p.config.format = "gguf";
    p.config.architecture = "llama";
    p.config.parameters = "8.03B";
    p.config.created_unix = 1735689600;
    add(&p, &a, "weights.bin", ROLE_GGUF, D1, 100);
    add(&p, &a, "proj.gguf", ROLE_MMPROJ, D2, 10);
    add(&p, &a, "t.txt", ROLE_TEMPLATE, D3, 9);
    add(&p, &a, "README.md", ROLE_FILE, D3, 9);
    build(&p, &a, &config, &manifest);
    assert_string_equal(buf_str(&config),
                        "{\"descriptor\":{\"createdAt\":\"2025-01-01T00:00:00Z\",\"family\":"
                        "\"llama\"},\"modelfs\":{\"type\":\"layers\",\"diffIds\":[\"" D1 "\",\"" D2
                        "\",\"" D3 "\",\"" D3
                        "\"]},\"config\":{\"architecture\":\"llama\",\"format\":\"gguf\","
                        "\"paramSize\":\"8.03b\"}}");
    assert_int_equal(oci_manifest_parse(str_from(buf_str(&manifest)), &a, &m, &err), 0);
    assert_int_equal(oci_manifest_check_model(&m, &err), 0);
    assert_string_equal(m.artifact_type, "application/vnd.cncf.model.manifest.v1+json");
    static const struct {
        const char *path;
        enum oci_role role;
        enum oci_media media;
    } want[] = {{"weights.bin.gguf", ROLE_GGUF, MEDIA_CNCF_WEIGHT},
                {"mmproj-proj.gguf", ROLE_MMPROJ, MEDIA_CNCF_WEIGHT},
                {"t.txt.jinja", ROLE_TEMPLATE, MEDIA_CNCF_FILE},
                {"README.md", ROLE_LICENSE, MEDIA_CNCF_DOC}};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_string_equal(m.layers[i].path, want[i].path);
        assert_int_equal(m.layers[i].role, want[i].role);
        assert_int_equal(m.layers[i].media, want[i].media);
    }
    buf_release(&config);
    buf_release(&manifest);
    p.config.context_size = 4096;
    assert_int_equal(oci_package_build(&p, &a, &config, &manifest, &err), -E_INVALID);
    buf_release(&config);
    buf_release(&manifest);
    arena_release(&a);
}

/* --from: the layers stay what they were, the rest changes. */
static void test_from(void **state)
{
    (void)state;
    static const char manifest_text[] =
        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.docker.ai.model.config."
        "v0.1+json\",\"digest\":\"" D3 "\",\"size\":2},\"layers\":[{\"mediaType\":\"application/"
        "vnd.docker.ai.gguf.v3\",\"digest\":\"" D1 "\",\"size\":9,\"annotations\":{\"x\":\"y\"}},"
        "{\"mediaType\":\"application/vnd.docker.ai.vllm.config.tar\",\"digest\":\"" D2
        "\",\"size\":3}]}";
    struct arena a;
    struct oci_package p;
    struct buf config, manifest;
    struct oci_manifest m;
    struct oci_config c;
    struct err err = ERR_INIT;
    arena_init(&a, 1 << 20);
    assert_int_equal(oci_package_from(str_from(manifest_text), str_from(docker_text), &a, &p, &err),
                     0);
    p.config.context_size = 512;
    add(&p, &a, "t.jinja", ROLE_TEMPLATE, D3, 4);
    build(&p, &a, &config, &manifest);
    assert_int_equal(oci_manifest_parse(str_from(buf_str(&manifest)), &a, &m, &err), 0);
    assert_int_equal(m.n_layers, 3);
    assert_string_equal(m.layers[0].digest, D1);
    assert_string_equal(m.layers[0].annotations, "{\"x\":\"y\"}");
    assert_int_equal(m.layers[1].role, ROLE_TEMPLATE);
    assert_int_equal(m.layers[2].media, MEDIA_DOCKER_VLLM_CONFIG);
    assert_int_equal(oci_config_parse(str_from(buf_str(&config)), m.config.media, &a, &c, &err), 0);
    assert_int_equal(c.context_size, 512);
    assert_int_equal(c.gguf.n, 2);
    assert_int_equal(c.diff_ids.n, 3);
    buf_release(&config);
    buf_release(&manifest);
    oci_package_convert(&p, OCI_CONFIG_CNCF);
    build(&p, &a, &config, &manifest);
    assert_int_equal(oci_manifest_parse(str_from(buf_str(&manifest)), &a, &m, &err), 0);
    assert_int_equal(m.layers[2].media, MEDIA_CNCF_FILE_TAR);
    assert_int_equal(m.layers[0].media, MEDIA_CNCF_WEIGHT);
    buf_release(&config);
    buf_release(&manifest);
    arena_release(&a);
}

static void test_refusals(void **state)
{
    (void)state;
    struct arena a;
    struct oci_package p;
    struct buf config, manifest;
    struct err err = ERR_INIT;
    arena_init(&a, 4 << 20);
    oci_package_init(&p, OCI_CONFIG_DOCKER_V02);
    static const char *const bad[] = {"/abs",  "../x",  "a/../b",
                                      "a//b",  "C:\\x", "C:x",
                                      "a/",    ".",     "a/\xE2\x80\xA4\xE2\x80\xA4/b",
                                      "x\x01", "\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct oci_file f = file(bad[i], ROLE_FILE, D1, 1);
        if (oci_package_add(&p, &f, &a, &err) != -E_INVALID)
            fail_msg("'%s' was taken", bad[i]);
    }
    assert_int_equal(oci_package_build(&p, &a, &config, &manifest, &err), -E_INVALID);
    buf_release(&config);
    buf_release(&manifest);
    add(&p, &a, "a.gguf", ROLE_GGUF, D1, 1);
    struct oci_file twice = file("a.gguf", ROLE_GGUF, D2, 1);
    assert_int_equal(oci_package_add(&p, &twice, &a, &err), -E_INVALID);
    assert_non_null(strstr(err.msg, "a.gguf"));
    add(&p, &a, "b.safetensors", ROLE_SAFETENSORS, D2, 1);
    assert_int_equal(oci_package_build(&p, &a, &config, &manifest, &err), -E_INVALID);
    buf_release(&config);
    buf_release(&manifest);
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_configs),      cmocka_unit_test(test_hostile_configs),
        cmocka_unit_test(test_human),        cmocka_unit_test(test_names),
        cmocka_unit_test(test_gguf_package), cmocka_unit_test(test_folder_package),
        cmocka_unit_test(test_cncf_package), cmocka_unit_test(test_from),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
