use super::*;

impl Bench {
    async fn timed(&self, name: &str, status: &str, timers: Value) {
        let step = json!({"type": "EncodedTask", "encodedTaskContent": "c3RlcHM6CiAgLSBjbWQ6IGFjcgo="});
        let properties = json!({"status": status, "step": step, "trigger": {"timerTriggers": timers}});
        self.place(&format!("registries/reg/tasks/{name}"), json!({"properties": properties})).await;
    }

    /// The runs so far, with what began them.
    async fn fired(&self) -> Vec<String> {
        self.runs.fire_timers().await.unwrap();
        let (runs, filter) = (self.store.runs(), postern_store::RunFilter::default());
        let list = runs.list(self.registry().uid.into(), &filter, None, 100).await.unwrap();
        let shown: Vec<Value> = list.iter().map(Bench::shown).collect();
        let told = |run: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let timer = &run["timerTrigger"];
            let time = text(&timer["scheduleOccurrence"]);
            format!(
                "{} {} {}",
                text(&run["task"]),
                text(&timer["timerTriggerName"]),
                time.get(11..16).unwrap_or_default()
            )
        };
        shown.iter().rev().map(told).collect()
    }
}

#[tokio::test]
async fn tasks_run_once_at_each_of_their_times() {
    let bench = Bench::new().await;
    let timer =
        |name: &str, schedule: &str, status: &str| json!({"name": name, "schedule": schedule, "status": status});
    // It is 00:52:09.
    bench
        .timed("a", "Enabled", json!([timer("t", "55 * * * *", "Enabled"), timer("u", "55 0 * * *", "Enabled")]))
        .await;
    bench.timed("b", "Disabled", json!([timer("t", "55 * * * *", "Enabled")])).await;
    bench
        .timed("c", "Enabled", json!([timer("t", "55 * * * *", "Disabled"), timer("u", "52 0 * * *", "Enabled")]))
        .await;
    assert!(bench.fired().await.is_empty(), "what was due before the first look is not made up for");
    bench.pass(2 * 60);
    assert!(bench.fired().await.is_empty());
    bench.pass(60);
    assert_eq!(bench.fired().await, ["a u 00:55"]);
    bench.pass(30);
    assert_eq!(bench.fired().await.len(), 1, "the same minute");
    let bench = bench.restarted().await;
    assert_eq!(bench.fired().await.len(), 1, "the same minute for another process");
    // A process that was killed before it had noted what it did.
    bench.store.vault().put("runs/timers", (START - 600).to_string().as_bytes()).await.unwrap();
    let bench = bench.restarted().await;
    assert_eq!(bench.fired().await.len(), 2, "and what it had not come to");
    assert_eq!(bench.fired().await.last().map(String::as_str), Some("c u 00:52"));
    // Nobody was there for three of its times: it runs once, for the last of them.
    let bench = bench.restarted().await;
    bench.pass(3 * 3600);
    assert_eq!(bench.fired().await.last().map(String::as_str), Some("a t 03:55"));
    assert_eq!(bench.fired().await.len(), 3);
}
