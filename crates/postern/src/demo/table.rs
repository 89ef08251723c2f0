//! The table that the demo prints.

/// One request that was really made.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) caller: String,
    pub(crate) place: String,
    pub(crate) setting: String,
    pub(crate) status: u16,
    pub(crate) verdict: String,
    pub(crate) layer: String,
    pub(crate) why: String,
    pub(crate) id: String,
}

const HEAD: [&str; 8] = ["caller", "place", "setting", "status", "verdict", "decided by", "why", "id"];

impl Row {
    fn cells(&self) -> [String; 8] {
        [
            self.caller.clone(),
            self.place.clone(),
            self.setting.clone(),
            self.status.to_string(),
            self.verdict.clone(),
            self.layer.clone(),
            self.why.clone(),
            self.id.clone(),
        ]
    }
}

/// Aligned columns under a head; a setting is said once for the rows it holds for.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    let mut setting = "";
    for row in rows {
        let mut cells = row.cells();
        if row.setting == setting {
            cells[2] = "″".into();
        }
        setting = &row.setting;
        lines.push(cells);
    }
    let mut widths = [0; 8];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let padded =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
