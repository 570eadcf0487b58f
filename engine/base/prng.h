/* A small deterministic random generator: xoshiro256** seeded by splitmix64 (Blackman and Vigna,
 * public domain). For simulation, jitter and sampling; never for secrets. The caller owns the
 * state; one thread at a time. Equal seeds give equal sequences on every machine. */
#ifndef JUMUN_BASE_PRNG_H
#define JUMUN_BASE_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

static inline uint64_t prng_splitmix(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static inline void prng_seed(struct prng *p, uint64_t seed) {
    for (int i = 0; i < 4; i++) p->s[i] = prng_splitmix(&seed);
}

static inline uint64_t prng_next(struct prng *p) {
    uint64_t x = p->s[1] * 5, result = ((x << 7) | (x >> 57)) * 9, t = p->s[1] << 17;
    p->s[2] ^= p->s[0];
    p->s[3] ^= p->s[1];
    p->s[1] ^= p->s[2];
    p->s[0] ^= p->s[3];
    p->s[2] ^= t;
    p->s[3] = (p->s[3] << 45) | (p->s[3] >> 19);
    return result;
}

/* 0 .. bound-1; 0 when bound is 0. */
static inline uint64_t prng_below(struct prng *p, uint64_t bound) {
    return bound == 0 ? 0 : (uint64_t)(((__uint128_t)prng_next(p) * bound) >> 64);
}

/* low .. high, both included. */
static inline int64_t prng_between(struct prng *p, int64_t low, int64_t high) {
    return low + (int64_t)prng_below(p, (uint64_t)(high - low) + 1);
}

/* True in `chance` of `of` cases. */
static inline bool prng_chance(struct prng *p, uint32_t chance, uint32_t of) {
    return prng_below(p, of) < chance;
}

#endif
