/* SPDX-License-Identifier: Apache-2.0 */
/* lib/net/httpd.h on other sockets than plain TCP: Unix, inherited, IPv6, several at once, TLS. */
#include "tests/support/cmocka_all.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/net/httpd.h"
#include "tests/support/fds.h"
#include "tests/support/http_client.h"

#define LAST "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

/* Says who asks. */
static void on_request(void *ctx, struct httpd_request *r)
{
    (void)ctx;
    const struct httpd_peer *p = httpd_peer(r);
    struct buf out;
    buf_init(&out, 64u << 20);
    buf_printf(&out, "<%s unix=%d tls=%d loopback=%d uid=%u pid=%u body=%zu>", p->address,
               p->is_unix, p->is_tls, p->is_loopback, p->uid, p->pid, httpd_body(r).len);
    if (strcmp(httpd_path(r), "/big") == 0) {
        assert_int_equal(buf_reserve(&out, 8u << 20), 0);
        memset(out.data + out.len, 'x', 8u << 20);
        out.len += 8u << 20;
    }
    if (strcmp(httpd_path(r), "/stream") == 0) {
        httpd_stream_begin(r, 200, "text/plain");
        for (int i = 0; i < 1000; i++)
            assert_int_equal(httpd_stream_write(r, STR_LIT("0123456789\n")), 0);
        httpd_stream_end(r);
        buf_release(&out);
        return;
    }
    httpd_answer_buf(r, 200, "text/plain", &out);
}

static int start(const struct httpd_listen *listen, uint32_t n, struct httpd **ret, struct err *err)
{
    struct httpd_config cfg = {
        .listen = listen, .n_listen = n, .n_threads = 2, .on_request = on_request};
    return httpd_start(&cfg, ret, err);
}

static struct httpd *must_start(const struct httpd_listen *listen, uint32_t n)
{
    struct httpd *h = NULL;
    struct err err = ERR_INIT;
    if (start(listen, n, &h, &err) < 0)
        fail_msg("%s", err.msg);
    return h;
}

static void expect(int fd, const char *wanted)
{
    assert_true(fd >= 0);
    client_send(fd, LAST);
    char *got = client_read_all(fd);
    if (!strstr(got, wanted))
        fail_msg("no %s: %s", wanted, got);
    mem_free(got);
}

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/berth-httpd-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static const char *in_folder(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", folder, name);
    return out;
}

/* --- Unix --- */

static void unix_sockets_are_private_and_know_who_asks(void **state)
{
    (void)state;
    char path[128], wanted[128];
    struct stat st;
    size_t n_fds = fds_count();
    struct httpd_listen one = {.kind = HTTPD_UNIX, .path = in_folder(path, "a.sock")};
    mode_t mask = umask(0);
    struct httpd *h = must_start(&one, 1);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK | 0600);
    assert_int_equal(httpd_port(h), 0);
    snprintf(wanted, sizeof(wanted), "<unix unix=1 tls=0 loopback=0 uid=%u pid=%u body=0>",
             getuid(), (unsigned)getpid());
    expect(client_dial_unix(path), wanted);
    httpd_stop(h);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(fds_count(), n_fds);
}

static void an_abandoned_socket_is_replaced_and_no_other(void **state)
{
    (void)state;
    char path[128], file[128], longer[256];
    struct err err = ERR_INIT;
    struct httpd *h = NULL, *other = NULL;
    struct stat st;
    struct httpd_listen one = {.kind = HTTPD_UNIX, .path = in_folder(path, "b.sock")};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, path, strlen(path));
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&addr, sizeof(addr)), 0);
    close(dead);
    h = must_start(&one, 1);
    expect(client_dial_unix(path), "unix=1");
    assert_int_equal(start(&one, 1, &other, &err), -E_EXISTS); /* somebody answers */
    expect(client_dial_unix(path), "unix=1");
    /* Replaced by somebody else's, it is theirs. */
    assert_int_equal(unlink(path), 0);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    httpd_stop(h);
    assert_int_equal(stat(path, &st), 0);
    unlink(path);

    one.path = in_folder(file, "file");
    fd = open(file, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(start(&one, 1, &other, &err), -E_EXISTS);
    assert_int_equal(stat(file, &st), 0);
    unlink(file);
    memset(longer, 'a', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    one.path = longer;
    assert_int_equal(start(&one, 1, &other, &err), -E_INVALID);
    one.path = "/nonexistent/x.sock";
    assert_int_equal(start(&one, 1, &other, &err), -E_NET);
}

/* --- inherited, several --- */

static void inherited_sockets_are_used_and_stay_their_givers(void **state)
{
    (void)state;
    struct sockaddr_in addr = {.sin_family = AF_INET};
    struct httpd *h = NULL;
    struct err err = ERR_INIT;
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int giver = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(giver, (struct sockaddr *)&addr, sizeof(addr)), 0);
    struct httpd_listen one = {.kind = HTTPD_INHERITED, .fd = dup(giver)};
    assert_int_equal(start(&one, 1, &h, &err), -E_INVALID); /* does not listen; fd is closed */
    assert_int_equal(fcntl(one.fd, F_GETFD), -1);
    assert_int_equal(listen(giver, 10), 0);
    for (int i = 0; i < 2; i++) {
        one.fd = dup(giver);
        h = must_start(&one, 1);
        assert_int_not_equal(httpd_port(h), 0);
        expect(client_dial(httpd_port(h)), "<127.0.0.1 unix=0 tls=0 loopback=1 uid=0 pid=0");
        httpd_stop(h);
    }
    close(giver);
}

static void several_sockets_at_once(void **state)
{
    (void)state;
    char path[128];
    struct httpd_listen some[] = {{.kind = HTTPD_UNIX, .path = in_folder(path, "c.sock")},
                                  {.kind = HTTPD_TCP, .host = "localhost"},
                                  {.kind = HTTPD_TCP, .host = "::1"}};
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    bool has_v6 = probe >= 0 && bind(probe, (struct sockaddr *)&addr, sizeof(addr)) == 0;
    close(probe);
    struct httpd *h = must_start(some, has_v6 ? 3 : 2);
    expect(client_dial_unix(path), "unix=1");
    expect(client_dial(httpd_port(h)), "<127.0.0.1 ");
    httpd_stop(h);
    if (has_v6) {
        h = must_start(&some[2], 1);
        addr.sin6_port = htons(httpd_port(h));
        int fd = socket(AF_INET6, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
        expect(fd, "<::1 unix=0 tls=0 loopback=1");
        httpd_stop(h);
    }
}

/* --- TLS --- */

/* A key and a certificate of its own for `name`, as PEM files. */
static void make_certificate(const char *name, const char *cert_path, const char *key_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *f = fopen(cert_path, "w");
    assert_true(f && PEM_write_X509(f, cert));
    fclose(f);
    f = fopen(key_path, "w");
    assert_true(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL));
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* A TLS connection; NULL when the server refuses the handshake. */
static SSL *tls_dial(SSL_CTX *ctx, uint16_t port, const char *alpn)
{
    int fd = client_dial(port);
    SSL *tls = SSL_new(ctx);
    SSL_set_fd(tls, fd);
    if (alpn)
        SSL_set_alpn_protos(tls, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    if (SSL_connect(tls) == 1)
        return tls;
    ERR_clear_error();
    SSL_free(tls);
    close(fd);
    return NULL;
}

static void tls_hang_up(SSL *tls)
{
    int fd = SSL_get_fd(tls);
    SSL_free(tls);
    close(fd);
}

/* What the server sends until it ends the session properly ("<broken>" otherwise). */
static char *tls_read_all(SSL *tls)
{
    struct buf b;
    int n;
    buf_init(&b, 64u << 20);
    do {
        assert_int_equal(buf_reserve(&b, 16384), 0);
        n = SSL_read(tls, b.data + b.len, 16384);
        b.len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    if (SSL_get_error(tls, n) != SSL_ERROR_ZERO_RETURN)
        buf_append_str(&b, "<broken>");
    buf_append(&b, "", 0);
    ERR_clear_error();
    tls_hang_up(tls);
    return buf_take(&b);
}

static void tls_expect(SSL *tls, const char *text, const char *wanted)
{
    assert_non_null(tls);
    assert_int_equal(SSL_write(tls, text, (int)strlen(text)), strlen(text));
    char *got = tls_read_all(tls);
    if (!strstr(got, wanted) || strstr(got, "<broken>"))
        fail_msg("no %s, or no end: %.2000s", wanted, got);
    mem_free(got);
}

static void peer_is(SSL *tls, const char *wanted)
{
    char name[64];
    assert_non_null(tls);
    X509 *cert = SSL_get1_peer_certificate(tls);
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof(name));
    assert_string_equal(name, wanted);
    X509_free(cert);
}

static struct httpd *start_tls(const char *cert, const char *key, uint32_t head_timeout_ms,
                               struct err *err)
{
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    struct httpd_config cfg = {.listen = &tcp,
                               .n_listen = 1,
                               .n_threads = 2,
                               .on_request = on_request,
                               .tls_cert = cert,
                               .tls_key = key,
                               .head_timeout_ms = head_timeout_ms};
    struct httpd *h = NULL;
    return httpd_start(&cfg, &h, err) == 0 ? h : NULL;
}

static void tls_serves_requests(void **state)
{
    (void)state;
    char cert[128], key[128];
    struct err err = ERR_INIT;
    make_certificate("first", in_folder(cert, "cert.pem"), in_folder(key, "key.pem"));
    struct httpd *h = start_tls(cert, key, 0, &err);
    if (!h)
        fail_msg("%s", err.msg);
    uint16_t port = httpd_port(h);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    tls_expect(tls_dial(ctx, port, NULL), LAST, "tls=1 loopback=1");
    tls_expect(tls_dial(ctx, port, "\x08http/1.1"),
               "GET /a HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b HTTP/1.1\r\nHost: a\r\n\r\n" LAST,
               "Connection: close");
    assert_null(tls_dial(ctx, port, "\x02h2"));
    SSL *both = tls_dial(ctx, port, "\x02h2\x08http/1.1");
    const unsigned char *chosen;
    unsigned n;
    assert_non_null(both);
    SSL_get0_alpn_selected(both, &chosen, &n);
    assert_int_equal(n, 8);
    tls_expect(both, "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
               "0123456789\n\r\n0\r\n\r\n");
    tls_expect(tls_dial(ctx, port, NULL),
               "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "xxxxxxxx");
    tls_expect(tls_dial(ctx, port, NULL), "garbage\r\n", "HTTP/1.1 400 ");

    SSL *tls = tls_dial(ctx, port, NULL); /* a large body, in any records */
    size_t len = 3u << 20;
    char *body = mem_alloc(len), head[128];
    snprintf(head, sizeof(head),
             "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", len);
    SSL_write(tls, head, (int)strlen(head));
    for (size_t at = 0; at < len; at += 12345)
        assert_true(SSL_write(tls, body + at, (int)MIN_OF(12345, len - at)) > 0);
    mem_free(body);
    tls_expect(tls, "", "body=3145728>");
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    tls_expect(tls_dial(ctx, port, NULL), LAST, "tls=1");
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
    assert_null(tls_dial(ctx, port, NULL));
    SSL_CTX_free(ctx);

    static const char *const plain[] = {
        LAST, "G", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) { /* told in its own words, and closed */
        int fd = client_dial(port);
        client_send(fd, plain[i]);
        char *got = client_read_all(fd);
        if (strncmp(got, "HTTP/1.1 400 ", 13) != 0 || !strstr(got, "ask again with https://") ||
            !strstr(got, "Connection: close"))
            fail_msg("%s: %.500s", plain[i], got);
        mem_free(got);
    }
    static const struct str others[] = {STR_LIT("\x16\x03\x01\x02"), STR_LIT("\0GET"),
                                        STR_LIT("get / HTTP/1.1\r\n\r\n"), STR_LIT("")};
    httpd_stop(h);
    h = start_tls(cert, key, 300, &err);
    assert_non_null(h);
    port = httpd_port(h);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) { /* half a handshake, and what is none */
        int fd = client_dial(port);
        client_send_bytes(fd, others[i].p, others[i].len);
        char *got = client_read_all(fd);
        assert_int_equal(client_count(got, "HTTP/"), 0);
        assert_int_equal(client_count(got, "<timeout>"), 0);
        mem_free(got);
    }
    httpd_stop(h);
    unlink(cert);
    unlink(key);
}

static void certificates_are_read_again(void **state)
{
    (void)state;
    char cert[128], key[128], other[128];
    struct err err = ERR_INIT;
    make_certificate("first", in_folder(cert, "cert.pem"), in_folder(key, "key.pem"));
    struct httpd *h = start_tls(cert, key, 0, &err);
    if (!h)
        fail_msg("%s", err.msg);
    uint16_t port = httpd_port(h);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *old = tls_dial(ctx, port, NULL);
    peer_is(old, "first");
    make_certificate("second", cert, key);
    assert_int_equal(httpd_tls_reload(h, &err), 0);
    SSL *new = tls_dial(ctx, port, NULL);
    peer_is(new, "second");
    tls_expect(new, LAST, "tls=1");
    tls_expect(old, LAST, "tls=1");
    /* A key of another certificate, and no certificate: the ones in use stay. */
    make_certificate("third", in_folder(other, "other.pem"), key);
    assert_int_equal(httpd_tls_reload(h, &err), -E_INVALID);
    unlink(cert);
    assert_int_equal(httpd_tls_reload(h, &err), -E_INVALID);
    assert_non_null(strstr(err.msg, "cert.pem"));
    new = tls_dial(ctx, port, NULL);
    peer_is(new, "second");
    tls_hang_up(new);
    SSL_CTX_free(ctx);
    httpd_stop(h);
    assert_null(start_tls(cert, key, 0, &err));
    assert_null(start_tls(cert, NULL, 0, &err));
    unlink(other);
    unlink(key);
    struct httpd_listen tcp = {.kind = HTTPD_TCP};
    h = must_start(&tcp, 1);
    assert_int_equal(httpd_tls_reload(h, &err), -E_INVALID);
    httpd_stop(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unix_sockets_are_private_and_know_who_asks),
        cmocka_unit_test(an_abandoned_socket_is_replaced_and_no_other),
        cmocka_unit_test(inherited_sockets_are_used_and_stay_their_givers),
        cmocka_unit_test(several_sockets_at_once),
        cmocka_unit_test(tls_serves_requests),
        cmocka_unit_test(certificates_are_read_again),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
