// How far apart two processors are: a line of the caches goes from one to the other and back.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum { CHUNKS = 100, TRIPS = 100 };

static _Alignas(128) atomic_long turn;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e9 + at.tv_nsec;
}

// Waits for the turn; who shares a processor with others lets them go on.
static void wait_for(long wanted) {
    for (long spins = 1; atomic_load(&turn) != wanted; spins++)
        if (spins % 10000 == 0) sched_yield();
}

static void *answer(void *unused) {
    for (long trip = 0; trip < CHUNKS * TRIPS; trip++) {
        wait_for(2 * trip + 1);
        atomic_store(&turn, 2 * trip + 2);
    }
    return unused;
}

static double ask(void) {
    double best = 1e18;
    for (long trip = 0; trip < CHUNKS * TRIPS;) {
        double start = now();
        for (int each = 0; each < TRIPS; each++, trip++) {
            atomic_store(&turn, 2 * trip + 1);
            wait_for(2 * trip + 2);
        }
        double taken = (now() - start) / TRIPS / 2;
        if (taken < best) best = taken;
    }
    return best;
}

static void *asked(void *best) {
    *(double *)best = ask();
    return best;
}

static int start(pthread_t *thread, int processor, void *(*run)(void *), void *given) {
    pthread_attr_t attributes;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof set, &set);
    int failed = pthread_create(thread, &attributes, run, given);
    pthread_attr_destroy(&attributes);
    return failed;
}

// The nanoseconds of one way, the fastest of many; below zero where threads cannot be started.
double core_to_core(int first, int second) {
    pthread_t one, other;
    double best = -1;
    atomic_store(&turn, 0);
    if (start(&one, first, answer, 0)) return best;
    if (start(&other, second, asked, &best)) return -1;  // the first one waits for ever
    pthread_join(other, 0);
    pthread_join(one, 0);
    return best;
}
