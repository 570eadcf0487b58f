#include "clients/sdk/key.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/ulid.h"

_Static_assert(sizeof(jumun_key) == sizeof(struct id128), "both are 16 bytes");

/* Random bytes of the system, fetched ahead: a system call for every key would cost more than the
 * rest of a call. */
struct key_source {
    uint32_t forks;        /* of the process when the bytes were fetched */
    uint32_t left;         /* bytes of `random` not given out yet */
    uint8_t random[1024];
    uint8_t id_prefix[12]; /* of command ids */
    uint32_t id_count;
};

static _Thread_local struct key_source key_source;
/* A child of fork() must not give out the bytes that its parent gives out too. Starts at 1 so that
 * a fresh thread's source is stale. */
static atomic_uint key_forks = 1;
static pthread_once_t key_fork_once = PTHREAD_ONCE_INIT;

static void key_forked(void) { atomic_fetch_add_explicit(&key_forks, 1, memory_order_relaxed); }

static void key_watch_forks(void) {
    int rc = pthread_atfork(NULL, NULL, key_forked);
    require(rc == 0);
}

static void key_fetch(void *out, size_t size) {
    uint8_t *at = out;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        if (n < 0 && errno == EINTR) continue;
        require(n > 0); /* the call exists since Linux 3.17 and does not fail once it has started */
        at += n;
        size -= (size_t)n;
    }
}

static struct key_source *key_source_ready(void) {
    struct key_source *s = &key_source;
    uint32_t forks = atomic_load_explicit(&key_forks, memory_order_relaxed);
    if (__builtin_expect(s->forks == forks, 1)) return s;
    pthread_once(&key_fork_once, key_watch_forks);
    s->forks = forks;
    s->left = 0;
    key_fetch(s->id_prefix, sizeof s->id_prefix);
    s->id_count = 0;
    return s;
}

static void key_random(void *out, uint32_t size) {
    struct key_source *s = key_source_ready();
    if (s->left < size) {
        key_fetch(s->random, sizeof s->random);
        s->left = sizeof s->random;
    }
    s->left -= size;
    memcpy(out, s->random + s->left, size);
    memset(s->random + s->left, 0, size);
}

jumun_key key_new_command_id(void) {
    struct key_source *s = key_source_ready();
    jumun_key id;
    if (++s->id_count == 0) {
        key_fetch(s->id_prefix, sizeof s->id_prefix);
        s->id_count = 1;
    }
    memcpy(id.bytes, s->id_prefix, sizeof s->id_prefix);
    memcpy(id.bytes + sizeof s->id_prefix, &s->id_count, sizeof s->id_count);
    return id;
}

uint64_t key_random_below(uint64_t below) {
    uint64_t r;
    key_random(&r, sizeof r);
    return (uint64_t)(((unsigned __int128)r * below) >> 64);
}

jumun_key jumun_key_new(void) {
    jumun_key key;
    uint64_t ms = (uint64_t)clock_unix_ms();
    for (int i = 5; i >= 0; i--) {
        key.bytes[i] = (uint8_t)ms;
        ms >>= 8;
    }
    key_random(key.bytes + 6, 10);
    return key;
}

void jumun_key_format(const jumun_key *key, char text[JUMUN_KEY_TEXT_BYTES]) {
    struct id128 id;
    memcpy(id.bytes, key->bytes, sizeof id.bytes);
    ulid_format(&id, text);
}

bool jumun_key_parse(const char *text, jumun_key *key) {
    struct id128 id;
    if (!text || !ulid_parse(text, strnlen(text, JUMUN_KEY_TEXT_BYTES), &id)) return false;
    memcpy(key->bytes, id.bytes, sizeof key->bytes);
    return true;
}
